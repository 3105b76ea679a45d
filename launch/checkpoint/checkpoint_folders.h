// The folders under RUN/checkpoints, seen by one rank: temporary names, renames, removal.
#pragma once

#include <string>

namespace witan {

// The name under which FOLDER is written.
std::string temporary_name(const std::string& folder);

// An empty FOLDER.tmp; what a killed run left of it is removed. Its parent is made.
void make_temporary(const std::string& folder);

// FOLDER.tmp becomes FOLDER, in one instant also where FOLDER was there before.
void commit_temporary(const std::string& folder);

// Removes FOLDER.tmp, as far as it goes.
void remove_temporary(const std::string& folder) noexcept;

// Of the step-* folders beside FOLDER removes all but the `keep_last` newest and FOLDER itself; and
// the temporary ones of killed runs.
void prune(const std::string& folder, int keep_last);

}  // namespace witan
