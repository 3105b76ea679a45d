// Tokens that are looked for in the text as they stand, before anything else: special tokens, and
// what was added to a vocabulary later.
#pragma once

#include <bitset>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace witan {

class AddedTokens {
 public:
  struct Token {
    std::string content;
    std::int32_t id = 0;
  };
  explicit AddedTokens(std::vector<Token> tokens);

  bool empty() const { return tokens_.empty(); }
  struct Found {
    std::size_t begin, end;
    std::int32_t id;
  };
  // The leftmost token at or behind `from`, of several that begin there the longest.
  std::optional<Found> find(std::string_view text, std::size_t from) const;

  // Calls text(stretch without such tokens, never empty) and token(id), in order.
  template <class Text, class Id>
  void divide(std::string_view text, Text&& stretch, Id&& token) const {
    std::size_t at = 0;
    while (at < text.size()) {
      const auto found = find(text, at);
      const std::size_t end = found ? found->begin : text.size();
      if (end > at) stretch(text.substr(at, end - at));
      if (found) token(found->id);
      at = found ? found->end : end;
    }
  }

 private:
  static std::size_t pair_of(char first, char second) {
    return static_cast<std::size_t>(static_cast<unsigned char>(first)) << 8 |
           static_cast<unsigned char>(second);
  }
  std::vector<Token> tokens_;                // the longest first
  std::bitset<256> begins_;                  // whether a token begins with this byte
  std::bitset<std::size_t{1} << 16> pairs_;  // and with these two, as far as it has two
};

}  // namespace witan
