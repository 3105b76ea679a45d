// A training step that exceeds no earlier maximum allocates nothing: neither tensors nor arenas
// (allocation_stats) nor containers and strings (a counted operator new), but for the figures that
// step() returns. One rank, own GEMM: libraries allocate as they like.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <vector>

#include "core/base/profile.h"
#include "core/ops/gemm_kernel.h"
#include "core/tensor/allocator.h"
#include "tests/launch/trainer_case.h"
#include "tests/support/cpu_kernels.h"

namespace {

std::atomic<std::int64_t> news{0};

void* counted(std::size_t bytes, std::size_t alignment) {
  ++news;
  const std::size_t padded = (bytes + alignment - 1) / alignment * alignment;
  void* data = std::aligned_alloc(alignment, padded == 0 ? alignment : padded);
  if (data == nullptr) throw std::bad_alloc();
  return data;
}

}  // namespace

// GCC takes the two sides for a mismatch where it inlines only one of them.
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"

void* operator new(std::size_t bytes) { return counted(bytes, alignof(std::max_align_t)); }
void* operator new[](std::size_t bytes) { return counted(bytes, alignof(std::max_align_t)); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return counted(bytes, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t bytes, std::align_val_t alignment) {
  return counted(bytes, static_cast<std::size_t>(alignment));
}
void operator delete(void* data) noexcept { std::free(data); }
void operator delete[](void* data) noexcept { std::free(data); }
void operator delete(void* data, std::size_t) noexcept { std::free(data); }
void operator delete[](void* data, std::size_t) noexcept { std::free(data); }
void operator delete(void* data, std::align_val_t) noexcept { std::free(data); }
void operator delete[](void* data, std::align_val_t) noexcept { std::free(data); }
void operator delete(void* data, std::size_t, std::align_val_t) noexcept { std::free(data); }
void operator delete[](void* data, std::size_t, std::align_val_t) noexcept { std::free(data); }

namespace witan::test {
namespace {

std::int64_t tensors() { return allocation_stats(DeviceType::kCpu).allocations; }

// What a step's figures take: a copy allocates as often as making them does.
std::int64_t news_of_a_copy(const StepMetrics& metrics) {
  const std::int64_t before = news;
  const StepMetrics copy = metrics;
  EXPECT_EQ(copy.step, metrics.step);
  return news - before;
}

void check_steady_steps(const char* change) {
  SCOPED_TRACE(change);
  const Corpus corpus;
  const Mesh mesh = Mesh::self();
  Session session(run_config(corpus, invariant_balance(false), change), mesh);
  const std::int64_t expected = news_of_a_copy(session.trainer().step(false));
  for (int step = 0; step < 4; ++step) session.trainer().step(false);
  for (int step = 0; step < 4; ++step) {
    const std::int64_t news_before = news;
    const std::int64_t tensors_before = tensors();
    const StepMetrics metrics = session.trainer().step(false);
    EXPECT_EQ(tensors() - tensors_before, 0);
    EXPECT_EQ(news - news_before, expected) << "beyond the figures that step() returns";
    EXPECT_TRUE(metrics.nonfinite.empty());
  }
}

TEST(TrainerAllocation, ASteadyStepAllocatesNothing) {
  const ScopedGemm own(ops::GemmChoice::kOwn);
  check_steady_steps("train { routing { force_balanced: true } }");
  check_steady_steps("train { micro_batch: 3 routing { force_balanced: true } }");
  for (const char* recompute : {"MOE_ACTIVATION", "MOE_LAYER", "LAYER"}) {
    check_steady_steps(
        (std::string("train { routing { force_balanced: true } recompute: ") + recompute + " }")
            .c_str());
  }
}

// With the router's own choices the counts change from step to step, the buffers of one rank do
// not.
TEST(TrainerAllocation, NorDoesOneWithUnevenLoad) {
  const ScopedGemm own(ops::GemmChoice::kOwn);
  check_steady_steps("");
}

// The ring is there before the steps; more events than it holds take the place of older ones.
TEST(TrainerAllocation, NorDoesAProfiledOne) {
  const ScopedGemm own(ops::GemmChoice::kOwn);
  constexpr std::size_t kFewerThanAStepHas = 64;
  start_profiling(kFewerThanAStepHas);
  check_steady_steps("train { routing { force_balanced: true } }");
  stop_profiling();
  std::vector<ProfileEvent> events;
  EXPECT_GT(take_profile_events(events), 0) << "or there was nothing to record";
}

TEST(TrainerAllocation, TheCountersCount) {
  const std::int64_t before = news;
  const std::vector<int> one(100);
  EXPECT_EQ(news - before, 1);
  const std::int64_t tensors_before = tensors();
  const Tensor tensor({3}, DType::kFloat32);
  EXPECT_EQ(tensors() - tensors_before, 1);
}

}  // namespace
}  // namespace witan::test
