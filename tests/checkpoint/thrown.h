// The message of the UserError that `f` throws.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "core/base/error.h"

namespace witan {

template <class F>
std::string user_error_of(F&& f) {
  try {
    f();
  } catch (const UserError& error) {
    return error.what();
  } catch (const std::exception& error) {
    ADD_FAILURE() << "not a UserError: " << error.what();
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace witan

// The UserError of `statement` says `part`.
#define EXPECT_USER_ERROR(statement, part)                                   \
  do {                                                                       \
    const std::string message_ = ::witan::user_error_of([&] { statement; }); \
    EXPECT_TRUE(::witan::contains(message_, part)) << message_;              \
  } while (false)
