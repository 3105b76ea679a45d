#include "core/base/error.h"

#include <atomic>

namespace witan {
namespace {
std::atomic<int> current_rank{-1};
}  // namespace

void set_error_rank(int rank) { current_rank = rank; }
int error_rank() { return current_rank; }

namespace detail {

void throw_check_failure(const char* file, int line, const char* expression,
                         const std::string& message) {
  std::ostringstream out;
  if (current_rank >= 0) out << "rank " << current_rank << ": ";
  out << message << " [" << file << ':' << line << ": " << expression << ']';
  throw Error(std::move(out).str());
}

}  // namespace detail
}  // namespace witan
