#include "launch/checkpoint/manifest.h"

#include <cinttypes>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include "configs/load.h"
#include "core/base/error.h"
#include "launch/checkpoint/strict_json.h"

namespace witan {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr const char* kFormat = "witan-checkpoint";
constexpr std::int64_t kVersion = 1;

std::string to_hex(std::uint64_t value) {
  char text[17];
  std::snprintf(text, sizeof text, "%016" PRIx64, value);
  return text;
}

std::string path_in(const std::string& folder, const char* file) {
  return (fs::path(folder) / file).string();
}

configs::RunConfig read_run(const std::string& path) {
  const configs::LoadedConfig loaded = configs::load_file(path, {});
  if (!loaded.errors.empty()) {
    std::string all;
    for (const configs::ConfigError& error : loaded.errors) all += "\n  " + error.to_string();
    throw_user_error(path, ": the run config of this checkpoint cannot be read:", all);
  }
  return loaded.run;
}

std::map<std::string, FileDigest> read_digests(const json& files) {
  std::map<std::string, FileDigest> digests;
  for (const auto& [name, entry] : files.items()) {
    digests[name] = {entry.at("bytes").get<std::uint64_t>(),
                     std::stoull(entry.at("xxh3").get<std::string>(), nullptr, 16)};
  }
  return digests;
}

Manifest from_json(const json& value, const std::string& path) {
  if (value.value("format", "") != kFormat) {
    throw_user_error(path, ": not the manifest of a checkpoint: \"format\" is not \"", kFormat,
                     "\"");
  }
  const auto version = value.at("version").get<std::int64_t>();
  if (version != kVersion) {
    throw_user_error(path, ": version ", version, " of the checkpoint format; this program reads ",
                     kVersion);
  }
  Manifest manifest;
  manifest.info.state.step = value.at("step").get<std::int64_t>();
  manifest.info.state.samples = value.at("samples").get<std::int64_t>();
  manifest.info.state.counts = value.at("counts").get<decltype(TrainState::counts)>();
  manifest.info.state.notes = value.at("notes").get<decltype(TrainState::notes)>();
  manifest.info.world = value.at("world").get<int>();
  manifest.info.expert_parallel = value.at("expert_parallel").get<int>();
  const auto dtype = value.at("dtype").get<std::string>();
  if (dtype != "float32" && dtype != "float64") {
    throw_user_error(path, ": dtype: expected \"float32\" or \"float64\", found \"", dtype, "\"");
  }
  manifest.dtype = dtype == "float32" ? DType::kFloat32 : DType::kFloat64;
  manifest.optimizer_state = value.at("optimizer_state").get<bool>();
  manifest.files = read_digests(value.at("files"));
  return manifest;
}

}  // namespace

bool has_manifest(const std::string& folder) {
  std::error_code ignored;
  return fs::is_regular_file(path_in(folder, kManifestFile), ignored);
}

Manifest read_full_manifest(const std::string& folder) {
  const std::string path = path_in(folder, kManifestFile);
  const json value = parse_strict_json(read_text_file(path), path);
  Manifest manifest;
  try {
    manifest = from_json(value, path);
  } catch (const json::exception& error) {
    throw_user_error(path, ": malformed: ", error.what());
  } catch (const std::logic_error& error) {  // of std::stoull
    throw_user_error(path, ": malformed checksum: ", error.what());
  }
  manifest.info.run = read_run(path_in(folder, kRunFile));
  return manifest;
}

CheckpointInfo read_manifest(const std::string& folder) { return read_full_manifest(folder).info; }

void write_manifest(const std::string& folder, const Manifest& manifest) {
  write_text_file(path_in(folder, kRunFile), configs::print_explicit(manifest.info.run));
  nlohmann::ordered_json value;
  value["format"] = kFormat;
  value["version"] = kVersion;
  value["step"] = manifest.info.state.step;
  value["samples"] = manifest.info.state.samples;
  value["world"] = manifest.info.world;
  value["expert_parallel"] = manifest.info.expert_parallel;
  value["dtype"] = name_of(manifest.dtype);
  value["optimizer_state"] = manifest.optimizer_state;
  value["notes"] = manifest.info.state.notes;
  value["counts"] = manifest.info.state.counts;
  value["files"] = nlohmann::ordered_json::object();
  for (const auto& [name, digest] : manifest.files) {
    value["files"][name] = {{"bytes", digest.bytes}, {"xxh3", to_hex(digest.xxh3)}};
  }
  write_text_file(path_in(folder, kManifestFile), value.dump(1) + "\n");
}

void verify_files(const std::string& folder, const Manifest& manifest, Files which, int first,
                  int stride) {
  std::string problems;
  int index = 0;
  for (const auto& [name, expected] : manifest.files) {
    if ((name.rfind("state-", 0) == 0) != (which == Files::kMoments)) continue;
    if (index++ % stride != first) continue;
    const std::string path = path_in(folder, name.c_str());
    std::error_code failed;
    const auto bytes = fs::file_size(path, failed);
    if (failed) {
      problems += "\n  " + path + ": " + failed.message();
    } else if (bytes != expected.bytes) {
      problems +=
          detail::concat("\n  ", path, ": corrupt: ", bytes, " bytes, expected ", expected.bytes);
    } else if (digest_of_file(path).xxh3 != expected.xxh3) {
      problems += "\n  " + path + ": corrupt: its checksum is not the one in witan.json";
    }
  }
  if (!problems.empty()) throw_user_error("the checkpoint is damaged:", problems);
}

}  // namespace witan
