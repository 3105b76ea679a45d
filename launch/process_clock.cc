#include "launch/process_clock.h"

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <sstream>

namespace witan {
namespace {

double boot_seconds() {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// Field 22 of /proc/self/stat: ticks from boot to the start of the process.
double start_seconds() {
  static const double start = [] {
    std::ifstream in("/proc/self/stat");
    std::string text;
    std::getline(in, text);
    std::istringstream rest(text.substr(text.rfind(')') + 1));
    std::string field;
    for (int i = 3; i <= 22; ++i) rest >> field;
    return rest ? std::stod(field) / static_cast<double>(sysconf(_SC_CLK_TCK)) : boot_seconds();
  }();
  return start;
}

}  // namespace

ProcessClock::ProcessClock(const char* first_part) { lap(first_part); }

void ProcessClock::lap(const char* part) {
  const double now = seconds();
  parts_.emplace_back(part, now - last_);
  last_ = now;
}

double ProcessClock::seconds() const { return boot_seconds() - start_seconds(); }

std::string ProcessClock::report() const {
  char text[64];
  std::snprintf(text, sizeof text, "%.2f s =", last_);
  std::string line = text;
  for (const auto& [part, seconds] : parts_) {
    std::snprintf(text, sizeof text, "%s %.3f %s", &part == &parts_.front().first ? "" : " +",
                  seconds, part);
    line += text;
  }
  return line;
}

}  // namespace witan
