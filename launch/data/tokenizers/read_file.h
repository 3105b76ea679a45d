// Reads a file of a tokenizer whole.
#pragma once

#include <string>

namespace witan {

// UserError if it cannot be read.
std::string read_tokenizer_file(const std::string& path);

}  // namespace witan
