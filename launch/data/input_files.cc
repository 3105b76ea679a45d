#include "launch/data/input_files.h"

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "core/base/error.h"

namespace witan {
namespace {

namespace fs = std::filesystem;

InputFile classify(const fs::path& path) {
  InputFile file;
  file.path = path.string();
  std::error_code failure;
  file.bytes = static_cast<std::int64_t>(fs::file_size(path, failure));
  if (failure) throw_user_error(file.path, ": cannot be read: ", failure.message());
  fs::path name = path.filename();
  const std::string last = name.extension().string();
  if (last == ".gz") file.compression = Compression::kGzip;
  if (last == ".zst" || last == ".zstd") file.compression = Compression::kZstd;
  if (file.compression != Compression::kNone) name = name.stem();
  const std::string kind = name.extension().string();
  file.jsonl = kind == ".jsonl" || kind == ".ndjson";
  return file;
}

// `above`: the real paths of the folders that lead here.
void add_folder(const fs::path& folder, std::vector<fs::path> above,
                std::vector<InputFile>& files) {
  std::error_code failure;
  const fs::path real = fs::canonical(folder, failure);
  if (failure) throw_user_error(folder.string(), ": cannot be read: ", failure.message());
  if (std::find(above.begin(), above.end(), real) != above.end())
    throw_user_error(folder.string(), ": leads back to ", real.string(), ", a folder above it");
  above.push_back(real);

  std::vector<fs::path> entries;
  for (fs::directory_iterator entry(folder, failure), end; !failure && entry != end;
       entry.increment(failure))
    if (entry->path().filename().string().front() != '.') entries.push_back(entry->path());
  if (failure) throw_user_error(folder.string(), ": cannot be read: ", failure.message());
  std::sort(entries.begin(), entries.end());
  for (const fs::path& entry : entries) {
    std::error_code not_there;  // classify() says why
    if (fs::is_directory(entry, not_there))
      add_folder(entry, above, files);
    else
      files.push_back(classify(entry));
  }
}

}  // namespace

std::vector<InputFile> find_input_files(const std::vector<std::string>& paths) {
  if (paths.empty()) throw_user_error("no input: expected at least one file or folder");
  std::vector<InputFile> files;
  for (const std::string& path : paths) {
    std::error_code failure;
    const fs::file_status status = fs::status(path, failure);
    if (status.type() == fs::file_type::not_found)
      throw_user_error(path, ": no such file or folder");
    if (failure) throw_user_error(path, ": cannot be read: ", failure.message());
    const std::size_t before = files.size();
    if (fs::is_directory(status))
      add_folder(path, {}, files);
    else
      files.push_back(classify(path));
    if (files.size() == before) throw_user_error(path, ": a folder without files");
  }
  return files;
}

}  // namespace witan
