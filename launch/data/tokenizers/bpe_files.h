// The files of a byte-level BPE tokenizer, and what they say.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "launch/data/tokenizer.h"
#include "launch/data/tokenizers/added_tokens.h"
#include "launch/data/tokenizers/bpe_model.h"
#include "launch/data/tokenizers/pre_tokenizer.h"

namespace witan {

struct BpeDefinition {
  struct Added {
    std::int32_t id = 0;
    std::string content;
    bool special = false;     // decodes to nothing
    bool normalized = false;  // looked for in the normalized text, in its own normalized form
  };
  std::string source;  // path, for errors
  BpeModel::Vocabulary vocabulary;
  std::vector<Added> added;
  std::vector<PreTokenizer::Step> steps;
  bool nfc = false;               // text is brought to Unicode's normal form C first
  bool add_prefix_space = false;  // in front of every stretch of text that does not begin with one
  std::vector<std::int32_t> text_begin;  // in front of every text
  std::int32_t end_of_document = -1;
  std::vector<TokenizerFile> files;
};

// tokenizer.json of the `tokenizers` library; end-of-document is the eos_token of the
// tokenizer_config.json beside it, else the one special token of a well-known name. UserError names
// the file and the field: malformed, or a feature that is not supported (so none is left out
// silently). Truncation and padding must be absent. Of a post_processor the tokens that a template
// puts in front of a text are taken over; behind it there may be end-of-document only, which
// documents end with anyway.
BpeDefinition read_tokenizer_json(const std::string& path);

// GPT-2's vocab.json (encoder.json) and merges.txt (vocab.bpe); "<|endoftext|>" is end-of-document.
BpeDefinition read_vocab_and_merges(const std::string& vocab_path, const std::string& merges_path);

}  // namespace witan
