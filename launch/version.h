// What this build is.
#pragma once

#include <string>

namespace witan {

// Version, build type, compiler, kernels of this CPU, versions of the libraries.
std::string version_text();

}  // namespace witan
