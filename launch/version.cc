#include "launch/version.h"

#include <google/protobuf/stubs/common.h>
#include <spdlog/version.h>
#include <zlib.h>
#include <zstd.h>

#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/ops/gemm_kernel.h"
#include "parallel/mpi_environment.h"

namespace witan {

std::string version_text() {
#ifdef _OPENMP
  const char* threads = "OpenMP";
#else
  const char* threads = "none";
#endif
  return detail::concat(
      "witan ", WITAN_VERSION, "\n  build      ", WITAN_BUILD_TYPE, ", g++ ", __VERSION__,
      ", CUDA ", WITAN_CUDA_STATE, ", threads ", threads, "\n  kernels    ",
      ops::describe_kernels(), "\n  libraries  ", mpi_library_version(), ", Protobuf ",
      google::protobuf::internal::VersionString(GOOGLE_PROTOBUF_VERSION), ", spdlog ",
      SPDLOG_VER_MAJOR, ".", SPDLOG_VER_MINOR, ".", SPDLOG_VER_PATCH, ", zlib ", zlibVersion(),
      ", zstd ", ZSTD_versionString(), ", nlohmann_json ", NLOHMANN_JSON_VERSION_MAJOR, ".",
      NLOHMANN_JSON_VERSION_MINOR, ".", NLOHMANN_JSON_VERSION_PATCH);
}

}  // namespace witan
