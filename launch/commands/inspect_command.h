// `witan inspect`: what is in a checkpoint, a Hugging Face folder, a safetensors file or a dataset.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace witan {

// Adds the subcommand to `app`; when it is on the command line, parsing sets `run` to what returns
// its exit code.
void register_inspect(CLI::App& app, std::function<int()>& run);

}  // namespace witan
