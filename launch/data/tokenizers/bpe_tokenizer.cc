#include "launch/data/tokenizers/bpe_tokenizer.h"

#include <xxhash.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <mutex>
#include <utility>

#include "core/base/error.h"
#include "launch/data/tokenizers/nfc.h"
#include "launch/data/tokenizers/text_cut.h"
#include "launch/data/tokenizers/utf8.h"

namespace witan {
namespace {

AddedTokens added_tokens(const BpeDefinition& definition, bool normalized) {
  std::vector<AddedTokens::Token> tokens;
  std::string buffer;
  for (const BpeDefinition::Added& added : definition.added) {
    if (added.normalized != normalized) continue;
    const bool compose = normalized && definition.nfc;
    tokens.push_back(
        {compose ? std::string(normalized_nfc(added.content, buffer)) : added.content, added.id});
  }
  return AddedTokens(std::move(tokens));
}

// What one thread works with.
struct Scratch {
  PreTokenizer::Scratch split;
  WordCache cache;
  std::string normalized, prefixed;
};

class BpeTokenizer final : public Tokenizer {
 public:
  explicit BpeTokenizer(BpeDefinition definition)
      : model_(definition.vocabulary, definition.source),
        pre_tokenizer_(std::move(definition.steps)),
        raw_added_(added_tokens(definition, false)),
        normalized_added_(added_tokens(definition, true)),
        nfc_(definition.nfc),
        add_prefix_space_(definition.add_prefix_space),
        can_cut_(pre_tokenizer_.is_well_known() &&
                 std::none_of(definition.added.begin(), definition.added.end(),
                              [](const auto& added) { return may_be_cut(added.content); })),
        text_begin_(std::move(definition.text_begin)),
        end_of_document_(definition.end_of_document),
        files_(std::move(definition.files)) {
    fill_bytes(definition);
    name_ = make_name();
  }

  std::string name() const override { return name_; }
  std::int64_t vocab_size() const override { return std::ssize(bytes_); }
  std::int32_t end_of_document() const override { return end_of_document_; }
  std::span<const std::int32_t> text_begin() const override { return text_begin_; }
  std::span<const TokenizerFile> files() const override { return files_; }

  void encode(std::string_view text, std::vector<std::int32_t>& ids) const override {
    std::unique_ptr<Scratch> scratch = borrow();
    raw_added_.divide(
        text,
        [&](std::string_view raw) {
          const std::string_view stretch = nfc_ ? normalized_nfc(raw, scratch->normalized) : raw;
          normalized_added_.divide(
              stretch, [&](std::string_view plain) { encode_plain(plain, *scratch, ids); },
              [&](std::int32_t id) { ids.push_back(id); });
        },
        [&](std::int32_t id) { ids.push_back(id); });
    give_back(std::move(scratch));
  }

  std::string decode(std::span<const std::int32_t> ids) const override {
    std::string text;
    for (const std::int32_t id : ids) {
      if (known(id)) text += bytes_[static_cast<std::size_t>(id)];
    }
    return text;
  }

  std::int64_t bytes(std::int32_t id) const override {
    return known(id) ? std::ssize(bytes_[static_cast<std::size_t>(id)]) : 0;
  }

  std::size_t first_cut(std::string_view text) const override {
    return can_cut_ ? first_text_cut(text, line_cuts()) : std::string_view::npos;
  }
  std::size_t last_cut(std::string_view text) const override {
    return can_cut_ ? last_text_cut(text, line_cuts()) : std::string_view::npos;
  }

 private:
  bool known(std::int32_t id) const { return id >= 0 && id < std::ssize(bytes_); }
  // A stretch that begins with a space gets no other in front.
  bool line_cuts() const { return !add_prefix_space_; }

  void fill_bytes(const BpeDefinition& definition) {
    const auto at = [this](std::int32_t id) -> std::string& {
      if (id >= std::ssize(bytes_)) bytes_.resize(static_cast<std::size_t>(id) + 1);
      return bytes_[static_cast<std::size_t>(id)];
    };
    for (const auto& [bytes, id] : definition.vocabulary.tokens) at(id) = bytes;
    for (const BpeDefinition::Added& added : definition.added) {
      at(added.id) = added.special ? "" : added.content;
    }
  }

  // The files of the text's tokens, and the token that ends it.
  std::string make_name() const {
    XXH64_hash_t hash = static_cast<XXH64_hash_t>(end_of_document_ + 1);
    for (const TokenizerFile& file : files_) {
      if (file.name == "tokenizer_config.json") continue;
      hash = XXH3_64bits_withSeed(file.content.data(), file.content.size(), hash);
    }
    char text[32];
    std::snprintf(text, sizeof text, "bpe-%016" PRIx64, static_cast<std::uint64_t>(hash));
    return text;
  }

  void encode_plain(std::string_view text, Scratch& scratch, std::vector<std::int32_t>& ids) const {
    if (add_prefix_space_ && text[0] != ' ') {
      scratch.prefixed.assign(1, ' ').append(text);
      text = scratch.prefixed;
    }
    const auto word = [&](std::string_view piece) {
      model_.encode(text, piece, scratch.cache, ids);
    };
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t end = end_of_utf8(text, at);
      if (end > at) pre_tokenizer_.split(text.substr(at, end - at), scratch.split, word);
      at = end;
      if (at < text.size()) word(text.substr(at++, 1));
    }
  }

  std::unique_ptr<Scratch> borrow() const {
    {
      const std::lock_guard lock(mutex_);
      if (!idle_.empty()) {
        std::unique_ptr<Scratch> scratch = std::move(idle_.back());
        idle_.pop_back();
        return scratch;
      }
    }
    auto scratch = std::make_unique<Scratch>();
    scratch->split = pre_tokenizer_.make_scratch();
    return scratch;
  }
  void give_back(std::unique_ptr<Scratch> scratch) const {
    const std::lock_guard lock(mutex_);
    idle_.push_back(std::move(scratch));
  }

  BpeModel model_;
  PreTokenizer pre_tokenizer_;
  AddedTokens raw_added_, normalized_added_;
  bool nfc_, add_prefix_space_, can_cut_;
  std::vector<std::int32_t> text_begin_;
  std::int32_t end_of_document_;
  std::vector<TokenizerFile> files_;
  std::vector<std::string> bytes_;  // by id
  std::string name_;
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Scratch>> idle_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_bpe_tokenizer(BpeDefinition definition) {
  return std::make_unique<BpeTokenizer>(std::move(definition));
}

}  // namespace witan
