// Time since this process started, by part.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace witan {

class ProcessClock {
 public:
  // What has passed between the start of the process and now becomes the first part.
  explicit ProcessClock(const char* first_part = "process, MPI and config");
  // Ends a part.
  void lap(const char* part);
  // "0.31 s = 0.25 process, MPI and config + 0.01 mesh + ..."
  std::string report() const;
  // Since the start of the process.
  double seconds() const;

 private:
  double last_ = 0.0;
  std::vector<std::pair<const char*, double>> parts_;
};

}  // namespace witan
