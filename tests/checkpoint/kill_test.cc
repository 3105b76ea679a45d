// A writer killed at any instant leaves checkpoints of which the newest loads. Only children use
// tensors: OpenMP's threads do not survive a fork.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <random>
#include <thread>

#include "tests/checkpoint/checkpoint_case.h"
#include "tests/checkpoint/scratch_folder.h"

namespace witan {
namespace {

void save_step(const std::string& run_folder, std::int64_t step) {
  const Mesh mesh = Mesh::self();
  RankState state(mixed_run(), mesh);
  state.fill(static_cast<std::uint64_t>(step));
  save_checkpoint(checkpoint_folder(run_folder, step), mixed_run(), state.params(),
                  &state.optimizer(), some_state(step), mesh, 2);
}

// The step of the newest checkpoint, if it loads and holds what save_step() wrote; else -1.
std::int64_t newest_step(const std::string& run_folder) {
  const std::optional<std::string> folder = newest_checkpoint(run_folder);
  if (!folder) return -1;
  const Mesh mesh = Mesh::self();
  RankState state(mixed_run(), mesh);
  const TrainState loaded =
      load_checkpoint(*folder, mixed_run(), state.params(), state.optimizer(), mesh);
  const auto seed = static_cast<std::uint64_t>(loaded.step);
  state.expect_weights(seed);
  state.expect_buffers(seed);
  state.expect_moments(seed);
  expect_equal(loaded, some_state(loaded.step));
  return testing::Test::HasFailure() ? -1 : loaded.step;
}

template <class F>
pid_t in_child(F&& f) {
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child != 0) return child;
  try {
    ::_exit(f());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    ::_exit(255);
  }
}

int exit_code_of(pid_t child) {
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

TEST(KillTest, NewestCheckpointLoadsWheneverTheWriterIsKilled) {
  const ScratchFolder scratch;
  const std::string run = scratch.path();
  ASSERT_EQ(exit_code_of(in_child([&] {
              save_step(run, 1);
              return 0;
            })),
            0);
  constexpr int kKills = 25;
  std::mt19937 random(1);
  for (int kill = 0; kill < kKills; ++kill) {
    // Goes on from the newest step, as a resumed run does.
    const pid_t writer = in_child([&] {
      const std::int64_t step = newest_step(run);
      if (step < 1) return 1;
      for (std::int64_t next = step + 1;; ++next) save_step(run, next);
    });
    std::this_thread::sleep_for(std::chrono::microseconds(5000 + random() % 60000));
    ::kill(writer, SIGKILL);
    ASSERT_EQ(exit_code_of(writer), -SIGKILL);  // else: what the writer before it left did not load
    ASSERT_EQ(exit_code_of(in_child([&] { return newest_step(run) >= 1 ? 0 : 1; })), 0);
  }
}

}  // namespace
}  // namespace witan
