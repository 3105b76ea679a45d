#include "launch/checkpoint/checkpoint_folders.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "launch/checkpoint/checkpoint.h"
#include "launch/checkpoint/manifest.h"
#include "launch/checkpoint/output_file.h"

namespace witan {

namespace fs = std::filesystem;

namespace {

constexpr const char* kTemporary = ".tmp";

// The step of "step-00001000"; none for any other name.
std::optional<std::int64_t> step_of(const std::string& name) {
  const std::string prefix = "step-";
  if (name.rfind(prefix, 0) != 0) return std::nullopt;
  std::int64_t step = 0;
  const char* begin = name.data() + prefix.size();
  const char* end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(begin, end, step);
  if (error != std::errc() || stop != end || step < 0) return std::nullopt;
  return step;
}

bool is_temporary(const fs::path& path) {
  return path.extension() == kTemporary && step_of(path.stem().string());
}

fs::path parent_of(const std::string& folder) {
  const fs::path parent = fs::path(folder).parent_path();
  return parent.empty() ? fs::path(".") : parent;
}

// Newest first.
std::vector<std::pair<std::int64_t, fs::path>> step_folders(const fs::path& parent) {
  std::vector<std::pair<std::int64_t, fs::path>> found;
  std::error_code failed;
  for (const auto& entry : fs::directory_iterator(parent, failed)) {
    const auto step = step_of(entry.path().filename().string());
    if (step && entry.is_directory()) found.emplace_back(*step, entry.path());
  }
  std::sort(found.begin(), found.end(), std::greater<>());
  return found;
}

// A complete folder loses its name first: a kill during the removal leaves nothing that looks
// whole.
void remove_complete(const fs::path& folder) {
  const std::string temporary = temporary_name(folder.string());
  fs::remove_all(temporary);
  fs::rename(folder, temporary);
  fs::remove_all(temporary);
}

}  // namespace

std::string checkpoint_folder(const std::string& run_folder, std::int64_t step) {
  std::string digits = std::to_string(step);
  if (digits.size() < 8) digits.insert(0, 8 - digits.size(), '0');
  return (fs::path(run_folder) / "checkpoints" / ("step-" + digits)).string();
}

std::optional<std::string> newest_checkpoint(const std::string& run_folder) {
  for (const auto& [step, folder] : step_folders(fs::path(run_folder) / "checkpoints")) {
    if (has_manifest(folder.string())) return folder.string();
  }
  return std::nullopt;
}

std::string temporary_name(const std::string& folder) { return folder + kTemporary; }

void make_temporary(const std::string& folder) {
  const std::string temporary = temporary_name(folder);
  std::error_code failed;
  fs::remove_all(temporary, failed);
  if (!failed) fs::create_directories(temporary, failed);
  if (failed) throw_user_error(temporary, ": cannot make the folder: ", failed.message());
}

void commit_temporary(const std::string& folder) {
  const std::string temporary = temporary_name(folder);
  sync_folder(temporary);
  const auto rename = [&](unsigned int flags) {
    return ::renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, folder.c_str(), flags) == 0;
  };
  if (!fs::exists(folder)) {
    if (::rename(temporary.c_str(), folder.c_str()) != 0) {
      throw_user_error(folder, ": cannot rename ", temporary,
                       " to it: ", std::generic_category().message(errno));
    }
  } else if (rename(RENAME_EXCHANGE)) {
    fs::remove_all(temporary);
  } else {
    throw_user_error(folder, ": cannot replace it by ", temporary, ": ",
                     std::generic_category().message(errno), "; remove it, or save elsewhere");
  }
  sync_folder(parent_of(folder).string());
}

void remove_temporary(const std::string& folder) noexcept {
  std::error_code ignored;
  fs::remove_all(temporary_name(folder), ignored);
}

void prune(const std::string& folder, int keep_last) {
  const fs::path parent = parent_of(folder);
  const fs::path own = fs::path(folder).filename();
  int kept = 0;
  for (const auto& [step, path] : step_folders(parent)) {
    const bool keep = path.filename() == own || kept < keep_last;
    if (keep) {
      kept += has_manifest(path.string()) ? 1 : 0;
    } else {
      remove_complete(path);
    }
  }
  std::vector<fs::path> left;
  for (const auto& entry : fs::directory_iterator(parent)) {
    if (is_temporary(entry.path())) left.push_back(entry.path());
  }
  for (const fs::path& path : left) fs::remove_all(path);
}

}  // namespace witan
