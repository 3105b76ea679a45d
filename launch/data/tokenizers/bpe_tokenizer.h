// Byte-level BPE as a Tokenizer.
#pragma once

#include <memory>

#include "launch/data/tokenizer.h"
#include "launch/data/tokenizers/bpe_files.h"

namespace witan {

// Added tokens, normalisation, pre-tokenisation, BPE, in this order. Bytes that are not UTF-8 are
// words of their own, so that every text decodes to itself (unless it is brought to NFC).
std::unique_ptr<Tokenizer> make_bpe_tokenizer(BpeDefinition definition);

}  // namespace witan
