// Running the program itself under mpirun, as a user does.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <string>
#include <vector>

namespace witan::test {

struct Outcome {
  int code = -1;
  std::string output;  // stdout and stderr
};

inline std::string quoted(const std::string& text) {
  std::string result = "'";
  for (const char c : text) result += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return result + "'";
}

// WITAN_PROGRAM and WITAN_MPIRUN (tests/support/mpirun.sh) are set by CMake.
inline Outcome run_program(int ranks, const std::vector<std::string>& arguments) {
  // One rank needs no mpirun, which takes two seconds to end after a failure.
  std::string command = "OMP_NUM_THREADS=1 ";
  if (ranks > 1) command += quoted(WITAN_MPIRUN) + " " + std::to_string(ranks) + " ";
  command += quoted(WITAN_PROGRAM);
  for (const std::string& argument : arguments) command += " " + quoted(argument);
  command += " 2>&1 </dev/null";
  Outcome outcome;
  std::FILE* pipe = ::popen(command.c_str(), "r");
  EXPECT_NE(pipe, nullptr) << command;
  if (pipe == nullptr) return outcome;
  std::array<char, 4096> piece{};
  for (std::size_t n = 0; (n = std::fread(piece.data(), 1, piece.size(), pipe)) > 0;) {
    outcome.output.append(piece.data(), n);
  }
  const int status = ::pclose(pipe);
  outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return outcome;
}

// Runs and expects exit code 0.
inline std::string output_of(int ranks, const std::vector<std::string>& arguments) {
  const Outcome outcome = run_program(ranks, arguments);
  EXPECT_EQ(outcome.code, 0) << outcome.output;
  return outcome.output;
}

// Runs and expects exit code 2 and a message with `part`.
inline void expect_refused(int ranks, const std::vector<std::string>& arguments,
                           const std::string& part) {
  const Outcome outcome = run_program(ranks, arguments);
  EXPECT_EQ(outcome.code, 2) << outcome.output;
  EXPECT_NE(outcome.output.find(part), std::string::npos) << "expected: " << part << "\n"
                                                          << outcome.output;
}

}  // namespace witan::test
