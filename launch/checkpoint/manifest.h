// witan.json: what a checkpoint holds. It is written last, so a folder without it is not one.
#pragma once

#include <map>
#include <string>

#include "core/base/dtype.h"
#include "launch/checkpoint/checkpoint.h"
#include "launch/checkpoint/output_file.h"

namespace witan {

inline constexpr const char* kManifestFile = "witan.json";
inline constexpr const char* kRunFile = "run.textproto";
inline constexpr const char* kBuffersFile = "buffers.safetensors";

struct Manifest {
  CheckpointInfo info;
  DType dtype = DType::kFloat32;  // of the run; the dtype of weights that it saved
  bool optimizer_state = false;
  std::map<std::string, FileDigest> files;  // the safetensors files
};

bool has_manifest(const std::string& folder);

// Reads witan.json and run.textproto. UserError on a missing or malformed file, or a newer format.
Manifest read_full_manifest(const std::string& folder);

// Writes run.textproto, then witan.json.
void write_manifest(const std::string& folder, const Manifest& manifest);

// Which files to verify: the moments, or all others.
enum class Files { kMoments, kOthers };

// Compares size and checksum of every stride-th of those files, beginning with `first`: the ranks
// share the work. UserError names what is missing or corrupt.
void verify_files(const std::string& folder, const Manifest& manifest, Files which, int first,
                  int stride);

}  // namespace witan
