#include "launch/data/run_tokenizer.h"

#include <filesystem>
#include <system_error>
#include <vector>

#include "core/base/error.h"
#include "launch/data/file_descriptor.h"

namespace witan {
namespace {

namespace fs = std::filesystem;

bool is_folder(const std::string& path) {
  std::error_code unknown;
  return fs::is_directory(path, unknown);
}

std::vector<const configs::Dataset*> datasets_with_tokenizer(const configs::DataConfig& data) {
  std::vector<const configs::Dataset*> kept;
  for (const auto* datasets : {&data.train(), &data.validation()}) {
    for (const configs::Dataset& dataset : *datasets) {
      if (is_folder(tokenizer_folder_of_dataset(dataset.path()))) kept.push_back(&dataset);
    }
  }
  return kept;
}

}  // namespace

std::string tokenizer_folder_of_dataset(const std::string& prefix) { return prefix + ".tokenizer"; }

void keep_tokenizer(const std::string& prefix, const Tokenizer& tokenizer) {
  const std::string folder = tokenizer_folder_of_dataset(prefix);
  std::error_code error;
  fs::remove_all(folder, error);
  if (error) throw_user_error(folder, ": cannot be removed: ", error.message());
  if (tokenizer.files().empty()) return;
  fs::create_directories(folder, error);
  if (error) throw_user_error(folder, ": cannot be made: ", error.message());
  for (const TokenizerFile& file : tokenizer.files()) {
    const FileDescriptor out = FileDescriptor::create((fs::path(folder) / file.name).string());
    out.write(std::as_bytes(std::span(file.content)));
    out.sync();
  }
}

std::unique_ptr<Tokenizer> tokenizer_of(const configs::DataConfig& data) {
  if (data.has_tokenizer()) {
    return data.tokenizer() == "none" ? nullptr : make_tokenizer(data.tokenizer());
  }
  const std::vector<const configs::Dataset*> kept = datasets_with_tokenizer(data);
  return make_tokenizer(kept.empty() ? "byte" : tokenizer_folder_of_dataset(kept[0]->path()));
}

void check_tokenizer_of_datasets(const configs::DataConfig& data, const Tokenizer* tokenizer) {
  if (tokenizer == nullptr) return;
  for (const configs::Dataset* dataset : datasets_with_tokenizer(data)) {
    const std::string folder = tokenizer_folder_of_dataset(dataset->path());
    const auto kept = make_tokenizer(folder);
    if (kept->name() == tokenizer->name()) continue;
    throw_user_error("dataset \"", dataset->name(), "\" (", dataset->path(),
                     ") was prepared with the tokenizer in ", folder, " (", kept->name(),
                     "), but that of this run is ", tokenizer->name(),
                     data.has_tokenizer() ? detail::concat(" (", data.tokenizer(), ")") : "");
  }
}

std::int32_t end_of_document_of(const configs::DataConfig& data, const Tokenizer* tokenizer) {
  if (data.has_end_of_document()) return static_cast<std::int32_t>(data.end_of_document());
  return tokenizer == nullptr ? -1 : tokenizer->end_of_document();
}

}  // namespace witan
