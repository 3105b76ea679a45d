// SentencePiece models (Kudo and Richardson 2018), run by the project's own programs.
#pragma once

#include <memory>
#include <string>

#include "launch/data/tokenizer.h"

namespace witan {

// `path`: a .model file. A text is what spm_encode makes of its lines; a line feed is the byte
// token <0x0A> where the model has one, else nothing. decode() runs spm_decode. UserError: not a
// model, or the programs are not installed (when they are first needed).
std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(const std::string& path);

}  // namespace witan
