// Which tokenizer a run has: a dataset keeps the one it was prepared with in PREFIX.tokenizer/, and
// data.tokenizer can name it.
#pragma once

#include <memory>
#include <string>

#include "configs/schema/run.pb.h"
#include "launch/data/tokenizer.h"

namespace witan {

// PREFIX.tokenizer
std::string tokenizer_folder_of_dataset(const std::string& prefix);

// Writes the tokenizer's files to that folder, in place of what is there. Without files (byte)
// there is no folder.
void keep_tokenizer(const std::string& prefix, const Tokenizer& tokenizer);

// data.tokenizer; if absent, the one that the first dataset keeps, else "byte". Null if it is
// "none". UserError: what make_tokenizer() throws.
std::unique_ptr<Tokenizer> tokenizer_of(const configs::DataConfig& data);

// Where the datasets are about to be read: UserError if one keeps another tokenizer than the run
// has (null: nobody knows which, which goes with any).
void check_tokenizer_of_datasets(const configs::DataConfig& data, const Tokenizer* tokenizer);

// data.end_of_document, else the tokenizer's (which may be null); -1: not known.
std::int32_t end_of_document_of(const configs::DataConfig& data, const Tokenizer* tokenizer);

}  // namespace witan
