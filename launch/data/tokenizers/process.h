// Another program as a filter.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace witan {

// Runs arguments[0] (looked for on the PATH) with `input` as its standard input and returns its
// standard output. UserError: there is no such program (`package` says what to install), or it
// fails (with what it wrote to its standard error).
std::string run_filter(const std::vector<std::string>& arguments, std::string_view input,
                       const std::string& package);

}  // namespace witan
