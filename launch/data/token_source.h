// A long array of token ids on disk, whatever the format of its files.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "configs/schema/run.pb.h"

namespace witan {

class TokenSource {
 public:
  virtual ~TokenSource() = default;
  virtual std::int64_t tokens() const = 0;
  // Tokens [begin, begin + out.size()). Ids are checked against `vocab` (UserError: file, position,
  // id).
  virtual void read(std::int64_t begin, std::span<std::int32_t> out, std::int64_t vocab) const = 0;

 protected:
  TokenSource() = default;
  TokenSource(const TokenSource&) = default;
  TokenSource& operator=(const TokenSource&) = default;
};

// What dataset.path names, in dataset.format. UserError: the file and what is wrong with it.
std::unique_ptr<TokenSource> open_dataset(const configs::Dataset& dataset);

// Whether the files that dataset.path names are there.
bool dataset_is_there(const configs::Dataset& dataset);

}  // namespace witan
