// Steps that may fail on one rank in the middle of a collective job.
#pragma once

#include <exception>
#include <string>

#include "parallel/communicator.h"

namespace witan {

// Runs local steps until the first one fails; agree() then makes it everyone's failure. Between the
// two a rank goes on taking part in the collectives of the job, so that no rank hangs.
class Attempt {
 public:
  template <class Step>
  void operator()(Step&& step) {
    if (failed()) return;
    try {
      step();
    } catch (const std::exception& error) {
      error_ = *error.what() != '\0' ? error.what() : "unknown error";
    }
  }
  bool failed() const { return !error_.empty(); }

  // Collective. The failures of all ranks, one a line with its rank; empty if there is none.
  std::string agree(Communicator& world) const;
  // Collective. Throws them as a UserError that begins with `what`.
  void throw_together(Communicator& world, const std::string& what) const;

 private:
  std::string error_;
};

}  // namespace witan
