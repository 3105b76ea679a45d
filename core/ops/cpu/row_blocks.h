// How rows are cut for sums over rows: every block makes a partial sum, and the partial sums are
// added in order. The cut depends on the number of rows alone, so the bits do not depend on the
// number of threads.
#pragma once

#include <algorithm>
#include <cstdint>

namespace witan::cpu {

struct RowBlocks {
  static constexpr std::int64_t kMostBlocks = 64;  // bounds the memory of the partial sums
  static constexpr std::int64_t kFewestRows = 32;

  explicit RowBlocks(std::int64_t rows_in_all)
      : rows(rows_in_all),
        rows_each(std::max(kFewestRows, (rows_in_all + kMostBlocks - 1) / kMostBlocks)),
        count((rows_in_all + rows_each - 1) / rows_each) {}
  std::int64_t begin(std::int64_t block) const { return block * rows_each; }
  std::int64_t end(std::int64_t block) const { return std::min(rows, (block + 1) * rows_each); }

  std::int64_t rows;
  std::int64_t rows_each;
  std::int64_t count;
};

}  // namespace witan::cpu
