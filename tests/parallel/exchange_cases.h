// Numbers of other implementations for the order of rows in an exchange, and how ours is held
// against them.
#pragma once

#include <cstdint>
#include <vector>

namespace witan {

// pytorch/torchtitan, tests/unit_tests/test_expert_parallel.py (commit b5bcd76): rows that arrive
// by rank, then expert, are wanted by expert, then rank.
struct PermuteCase {
  int ranks;
  std::vector<std::int64_t> rank_major_counts;
  std::vector<std::int32_t> permuted_indices;
  std::vector<std::int64_t> tokens_per_expert;
};
extern const std::vector<PermuteCase> kTorchtitanPermute;

// AI-Hypercomputer/maxtext, tests/unit/moe_test.py (commit e591f30): where a ragged all-to-all
// reads and writes, [rank, peer].
struct AllToAllCase {
  std::vector<std::vector<std::int64_t>> sizes_src_by_dst;
  std::vector<std::vector<std::int64_t>> input_offsets;
  std::vector<std::vector<std::int64_t>> send_sizes;
  std::vector<std::vector<std::int64_t>> output_offsets;  // [source, destination]
  std::vector<std::vector<std::int64_t>> recv_sizes;
};
extern const AllToAllCase kMaxTextAllToAll;

void check_permute_case(const PermuteCase& example);
// Each rank's plan, with one expert a rank.
void check_all_to_all_case(const AllToAllCase& example);

}  // namespace witan
