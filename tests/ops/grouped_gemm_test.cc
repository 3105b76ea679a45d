// Grouped products against float64 and against one product per group, over uneven and empty groups.
#include "core/ops/grouped_gemm.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "tests/support/cpu_kernels.h"
#include "tests/support/float64_gemm.h"
#include "tests/support/threads.h"

namespace witan {
namespace {

using ops::GemmChoice;
using ops::GemmLayout;
using Offsets = std::vector<std::int64_t>;

const std::vector<Offsets> kRoutings = {
    {0, 0},                            // one group, no row
    {0, 5},                            // one group
    {0, 1, 1, 4, 21, 21, 54},          // uneven, with empty groups
    {0, 0, 0, 0, 300, 300, 303, 310},  // one group dominates: it is cut
    {0, 130, 260, 390, 520, 650},      // more groups than threads, equal
    {0, 0, 0, 0},                      // nobody was routed
};

template <class T>
struct Case {
  Offsets offsets;
  std::int64_t groups, rows, n, k;
  std::vector<T> x, dy, w;  // [rows, k], [rows, n], [groups, n, k]

  Case(const Offsets& routing, std::int64_t n_, std::int64_t k_)
      : offsets(routing), groups(std::ssize(routing) - 1), rows(routing.back()), n(n_), k(k_) {
    x = test::random_values<T>(rows * k, 1);
    dy = test::random_values<T>(rows * n, 2);
    w = test::random_values<T>(groups * n * k, 3);
  }
  std::int64_t count(std::int64_t g) const {
    return offsets[static_cast<std::size_t>(g) + 1] - offsets[static_cast<std::size_t>(g)];
  }
  std::int64_t first(std::int64_t g) const { return offsets[static_cast<std::size_t>(g)]; }

  std::vector<T> nt() const {
    std::vector<T> y(static_cast<std::size_t>(rows * n), std::numeric_limits<T>::quiet_NaN());
    ops::grouped_gemm_nt({}, view_of(x.data(), {rows, k}), offsets,
                         view_of(w.data(), {groups, n, k}), view_of(y.data(), {rows, n}));
    return y;
  }
  std::vector<T> nn() const {
    std::vector<T> dx(static_cast<std::size_t>(rows * k), std::numeric_limits<T>::quiet_NaN());
    ops::grouped_gemm_nn({}, view_of(dy.data(), {rows, n}), offsets,
                         view_of(w.data(), {groups, n, k}), view_of(dx.data(), {rows, k}));
    return dx;
  }
  // Starts from the values of w, so that accumulation shows.
  std::vector<T> tn() const {
    std::vector<T> dw = w;
    ops::grouped_gemm_tn({}, view_of(dy.data(), {rows, n}), offsets, view_of(x.data(), {rows, k}),
                         view_of(dw.data(), {groups, n, k}));
    return dw;
  }
};

template <class T>
void check(const Offsets& offsets, std::int64_t n, std::int64_t k) {
  const Case<T> c(offsets, n, k);
  const auto y = c.nt();
  const auto dx = c.nn();
  const auto dw = c.tn();
  for (std::int64_t g = 0; g < c.groups; ++g) {
    const std::int64_t rows = c.count(g);
    const T* x = c.x.data() + c.first(g) * k;
    const T* dy = c.dy.data() + c.first(g) * n;
    const T* w = c.w.data() + g * n * k;
    test::Product(GemmLayout::kNT, rows, n, k, x, w)
        .expect_near<T>(y.data() + c.first(g) * n, nullptr);
    test::Product(GemmLayout::kNN, rows, k, n, dy, w)
        .expect_near<T>(dx.data() + c.first(g) * k, nullptr);
    test::Product(GemmLayout::kTN, n, k, rows, dy, x).expect_near<T>(dw.data() + g * n * k, w);
  }
}

template <class T>
void check_all() {
  for (const Offsets& offsets : kRoutings) {
    for (int threads : {1, 2, 5}) {
      const test::ScopedThreads scope(threads);
      check<T>(offsets, 1, 1);
      check<T>(offsets, 33, 17);
      check<T>(offsets, 40, 130);
    }
  }
}

TEST(GroupedGemm, OwnKernelOnEveryLevel) {
  const test::ScopedGemm own(GemmChoice::kOwn);
  for (CpuIsa isa : test::executable_isas()) {
    SCOPED_TRACE(name_of(isa));
    const test::ScopedIsa level(isa);
    check_all<float>();
    check_all<double>();
  }
}

TEST(GroupedGemm, OneDnn) {
  const test::ScopedGemm onednn(GemmChoice::kOneDnn);
  check_all<float>();
}

TEST(GroupedGemm, Table) { check_all<float>(); }

TEST(GroupedGemm, SameBitsAtAnyNumberOfThreads) {
  for (GemmChoice choice : {GemmChoice::kAuto, GemmChoice::kOwn}) {
    const test::ScopedGemm kernel(choice);
    for (const Offsets& offsets : kRoutings) {
      const Case<float> c(offsets, 96, 150);
      std::vector<float> y, dx, dw;
      {
        const test::ScopedThreads one(1);
        y = c.nt();
        dx = c.nn();
        dw = c.tn();
      }
      for (int threads : {2, 3, 8}) {
        const test::ScopedThreads several(threads);
        const auto same = [](const std::vector<float>& a, const std::vector<float>& b) {
          return a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
        };
        EXPECT_TRUE(same(c.nt(), y)) << threads;
        EXPECT_TRUE(same(c.nn(), dx)) << threads;
        EXPECT_TRUE(same(c.tn(), dw)) << threads;
      }
    }
  }
}

TEST(GroupedGemm, WithoutAccumulationEmptyGroupsBecomeZero) {
  for (const Offsets& offsets : kRoutings) {
    const Case<float> c(offsets, 9, 13);
    std::vector<float> dw(c.w.size(), std::numeric_limits<float>::quiet_NaN());
    ops::grouped_gemm_tn({}, view_of(c.dy.data(), {c.rows, c.n}), offsets,
                         view_of(c.x.data(), {c.rows, c.k}),
                         view_of(dw.data(), {c.groups, c.n, c.k}), ops::Accumulate::kNo);
    std::vector<float> expected(c.w.size(), 0.0F);
    ops::grouped_gemm_tn({}, view_of(c.dy.data(), {c.rows, c.n}), offsets,
                         view_of(c.x.data(), {c.rows, c.k}),
                         view_of(expected.data(), {c.groups, c.n, c.k}));
    EXPECT_EQ(dw, expected);
  }
}

TEST(GroupedGemm, RowsOutsideTheGroupsAreLeftAlone) {
  const Offsets offsets = {2, 4, 5};
  const auto x = test::random_values<float>(8 * 3, 1);
  const auto w = test::random_values<float>(2 * 4 * 3, 2);
  std::vector<float> y(8 * 4, 7.0F);
  ops::grouped_gemm_nt({}, view_of(x.data(), {8, 3}), offsets, view_of(w.data(), {2, 4, 3}),
                       view_of(y.data(), {8, 4}));
  for (int row : {0, 1, 5, 6, 7}) {
    for (int j = 0; j < 4; ++j) EXPECT_EQ(y[row * 4 + j], 7.0F);
  }
  test::Product(GemmLayout::kNT, 1, 4, 3, x.data() + 4 * 3, w.data() + 4 * 3)
      .expect_near<float>(y.data() + 4 * 4, nullptr);
}

TEST(GroupedGemm, RefusesWrongOffsets) {
  const auto message = [](const Offsets& offsets) -> std::string {
    const std::vector<float> x(8 * 3), w(2 * 4 * 3);
    std::vector<float> y(8 * 4);
    try {
      ops::grouped_gemm_nt({}, view_of(x.data(), {8, 3}), offsets, view_of(w.data(), {2, 4, 3}),
                           view_of(y.data(), {8, 4}));
    } catch (const Error& error) {
      return error.what();
    }
    return "nothing was thrown";
  };
  EXPECT_NE(message({0, 8}).find("expected 3 offsets for 2 groups, found 2"), std::string::npos);
  EXPECT_NE(message({0, 9, 8}).find("must not decrease"), std::string::npos);
  EXPECT_NE(message({0, 4, 9}).find("leave the 8 rows"), std::string::npos);
}

}  // namespace
}  // namespace witan
