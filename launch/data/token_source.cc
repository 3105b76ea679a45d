#include "launch/data/token_source.h"

#include <filesystem>
#include <system_error>

#include "core/base/error.h"
#include "launch/data/indexed_dataset.h"
#include "launch/data/token_file.h"

namespace witan {
namespace {

bool is_file(const std::string& path) {
  std::error_code unknown;
  return std::filesystem::is_regular_file(path, unknown);
}

}  // namespace

std::unique_ptr<TokenSource> open_dataset(const configs::Dataset& dataset) {
  switch (dataset.format()) {
    case configs::Dataset::RAW_UINT16:
      return std::make_unique<TokenFile>(dataset.path(), TokenFile::Format::kRawUint16);
    case configs::Dataset::RAW_UINT32:
      return std::make_unique<TokenFile>(dataset.path(), TokenFile::Format::kRawUint32);
    case configs::Dataset::AUTO: break;
  }
  if (is_file(dataset.path()) && !is_file(dataset.path() + ".idx"))
    return std::make_unique<TokenFile>(dataset.path(), TokenFile::Format::kLlmC);
  return std::make_unique<IndexedDataset>(dataset.path());
}

bool dataset_is_there(const configs::Dataset& dataset) {
  return is_file(dataset.path()) ||
         (is_file(dataset.path() + ".bin") && is_file(dataset.path() + ".idx"));
}

}  // namespace witan
