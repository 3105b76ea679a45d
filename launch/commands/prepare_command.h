// `witan prepare`: text, JSONL, gzip and zstd files to an indexed dataset.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace witan {

// Adds the subcommand to `app`; when it is on the command line, parsing sets `run` to what returns
// its exit code.
void register_prepare(CLI::App& app, std::function<int()>& run);

}  // namespace witan
