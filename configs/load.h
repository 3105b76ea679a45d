// From a Protobuf text file and --set overrides to a checked RunConfig.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "configs/config_error.h"
#include "configs/schema/run.pb.h"

namespace witan::configs {

// Where an effective value came from.
struct Origin {
  enum class Kind { kDefault, kFile, kOverride };
  Kind kind = Kind::kDefault;
  int line = 0;  // 1-based, kFile only
  int column = 0;
};

struct LoadedConfig {
  RunConfig run;  // explicit values only; unset fields answer their schema default
  std::string file;
  std::map<std::string, Origin> origins;       // dotted path of every explicitly set scalar
  std::map<std::string, std::string> derived;  // path: "8 times granularity 4" where the value is
                                               // not the one that was written
  ConfigErrors errors;                         // sorted by position; empty = good
};

// A check that combines fields; `fail(field path, message)` appends an error, whose position load()
// looks up.
using Fail = std::function<void(const std::string& field, const std::string& message)>;
using Check = std::function<void(const RunConfig&, const Fail&)>;

// Parses `text` (named `file` in messages), applies `overrides` ("path=value", a dotted path;
// repeated fields by index, "model.moe.balance[0].z_loss.coefficient=1e-3"; an index equal to the
// size appends; strings need no quotes; a block or a list replaces what was there) in order, then
// checks: unknown fields (all of them, with the nearest known name), types, duplicates, required
// fields and choices, ranges; then, if each value by itself is good, `checks`. Never throws for a
// user's mistake: look at errors.
LoadedConfig load(const std::string& text, const std::string& file,
                  const std::vector<std::string>& overrides, const std::vector<Check>& checks = {});

// Reads a file whole; on failure the LoadedConfig holds the error.
LoadedConfig load_file(const std::string& path, const std::vector<std::string>& overrides,
                       const std::vector<Check>& checks = {});

// The effective config: every field, defaults included, in schema order, each scalar followed by "#
// default", "# FILE:LINE" or
// "# --set". It parses as text format again.
std::string print_effective(const LoadedConfig& config);

// The explicit fields as text format (what is saved with a checkpoint).
std::string print_explicit(const RunConfig& run);

// Markdown reference of every message and field of the schema: type, default, range, unit and
// comment (docs/config_reference.md).
std::string config_reference();

}  // namespace witan::configs
