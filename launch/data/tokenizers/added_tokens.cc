#include "launch/data/tokenizers/added_tokens.h"

#include <algorithm>
#include <utility>

namespace witan {

AddedTokens::AddedTokens(std::vector<Token> tokens) : tokens_(std::move(tokens)) {
  std::stable_sort(tokens_.begin(), tokens_.end(), [](const Token& a, const Token& b) {
    return a.content.size() > b.content.size();
  });
  for (const Token& token : tokens_) {
    const std::string& content = token.content;
    begins_.set(static_cast<unsigned char>(content[0]));
    for (int second = 0; second < 256; ++second) {
      const bool fits = content.size() == 1 || content[1] == static_cast<char>(second);
      if (fits) pairs_.set(pair_of(content[0], static_cast<char>(second)));
    }
  }
}

std::optional<AddedTokens::Found> AddedTokens::find(std::string_view text, std::size_t from) const {
  if (tokens_.empty()) return std::nullopt;
  for (std::size_t at = from; at < text.size(); ++at) {
    const bool last = at + 1 == text.size();
    if (last ? !begins_.test(static_cast<unsigned char>(text[at]))
             : !pairs_.test(pair_of(text[at], text[at + 1]))) {
      continue;
    }
    for (const Token& token : tokens_) {
      if (text.compare(at, token.content.size(), token.content) == 0) {
        return Found{at, at + token.content.size(), token.id};
      }
    }
  }
  return std::nullopt;
}

}  // namespace witan
