// Errors. WITAN_CHECK throws `Error`; only main() catches. Reachable from .cu files: no fmt, no
// spdlog.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

namespace witan {

// A failure that is our fault or the machine's: exit code 1 (MPI_Abort on every rank).
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A mistake in what the user gave us (config, data, checkpoint, command line). The message names
// the file, the line or field, the value found and what would be right. No source location is
// added. Exit code 2.
class UserError : public Error {
 public:
  using Error::Error;
};

// The rank named in error messages; -1 (the default) names none. Set once by main() after MPI
// starts.
void set_error_rank(int rank);
int error_rank();

namespace detail {

template <class... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return std::move(out).str();
}

[[noreturn]] void throw_check_failure(const char* file, int line, const char* expression,
                                      const std::string& message);

}  // namespace detail

// throw_user_error("data.bin: token ", id, " is outside the vocabulary of ", vocab);
template <class... Parts>
[[noreturn]] void throw_user_error(const Parts&... parts) {
  throw UserError(detail::concat(parts...));
}

}  // namespace witan

// WITAN_CHECK(a == b, "rows of x: expected ", a, ", found ", b);
#define WITAN_CHECK(condition, ...)                                               \
  do {                                                                            \
    if (!(condition)) [[unlikely]]                                                \
      ::witan::detail::throw_check_failure(__FILE__, __LINE__, #condition,        \
                                           ::witan::detail::concat(__VA_ARGS__)); \
  } while (false)
