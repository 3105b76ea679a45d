// Tokens for a config whose data is not there.
#pragma once

#include "configs/schema/run.pb.h"

namespace witan {

// Whether every dataset that the config names can be opened. For one rank to ask.
bool data_is_there(const configs::DataConfig& data);

// Writes an indexed dataset at the path of every training dataset: short documents, each token
// mostly following from the one before, with data.end_of_document behind each. For one rank to
// call.
void write_synthetic_data(const configs::DataConfig& data, std::int64_t vocab_size,
                          std::uint64_t seed);

}  // namespace witan
