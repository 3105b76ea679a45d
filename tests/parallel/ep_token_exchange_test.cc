// Dispatch, experts, combine and their backwards over 1 to 4 ranks against the same tokens on one
// rank, bit for bit.
#include "parallel/ep_token_exchange.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/base/rng.h"
#include "core/model/local_token_exchange.h"
#include "core/tensor/allocator.h"
#include "parallel/mesh.h"

namespace witan {
namespace {

constexpr double kWatchdogSeconds = 60.0;
constexpr std::int64_t kExperts = 12;  // divides over 1, 2, 3 and 4 ranks

const MpiEnvironment& mpi() {
  static const MpiEnvironment environment(nullptr, nullptr);
  return environment;
}

// A routing of every rank's tokens; everybody knows all of it.
struct Scenario {
  std::string name;
  std::int64_t top_k = 1;
  std::vector<std::int64_t> tokens;  // of each rank
  // The expert of choice j of the token with this number in the whole group.
  std::function<std::int32_t(std::int64_t token, std::int64_t j)> expert;
};

std::vector<Scenario> scenarios(int ranks) {
  const auto size = static_cast<std::size_t>(ranks);
  // Distinct experts for the choices of a token: a random start and a random odd step.
  const auto random_expert = [](std::int64_t token, std::int64_t j) {
    const Random random(7, "test routing");
    const auto address = static_cast<std::uint64_t>(token);
    const std::uint64_t start = random.below(2 * address, kExperts);
    const std::uint64_t step = random.below(2 * address + 1, 2) == 0 ? 1 : 5;
    return static_cast<std::int32_t>((start + static_cast<std::uint64_t>(j) * step) % kExperts);
  };
  std::vector<std::int64_t> uneven, some_empty;
  for (int rank = 0; rank < ranks; ++rank) {
    uneven.push_back(5 + 7 * rank);
    some_empty.push_back(rank % 2 == 0 ? 0 : 9);
  }
  return {
      {"random, top-1", 1, uneven, random_expert},
      {"random, top-3", 3, uneven, random_expert},
      {"ranks without tokens", 2, some_empty, random_expert},
      {"no tokens at all", 2, std::vector<std::int64_t>(size, 0), random_expert},
      {"all to the last expert", 1, uneven,
       [](std::int64_t, std::int64_t) { return static_cast<std::int32_t>(kExperts - 1); }},
      {"two experts of the first rank only", 2, uneven,
       [](std::int64_t token, std::int64_t j) {
         return static_cast<std::int32_t>((token + j) % 2);
       }},
      {"many tokens, top-8", 8, std::vector<std::int64_t>(size, 200), random_expert},
  };
}

// What the experts of the test do: a row times its weight and a factor of the expert, in the
// forward; the same backward. Then dw is the row's product with the gradient.
template <class T>
struct Layer {
  std::vector<T> y, dx, dweights;
};

template <class T>
T value(const char* what, std::int64_t token, std::int64_t index) {
  const Random random(11, what);
  return static_cast<T>(random.normal(static_cast<std::uint64_t>(token * 1000 + index)));
}

// The MoE layer's communication, forward and backward, for tokens [first, first + tokens) of the
// group.
template <class T>
Layer<T> run_layer(TokenExchange& exchange, const Scenario& scenario, std::int64_t first,
                   std::int64_t tokens, std::int64_t d, Arena& arena) {
  const Context ctx;
  const std::int64_t top_k = scenario.top_k;
  std::vector<std::int32_t> indices;
  std::vector<T> x, weights, dy;
  for (std::int64_t token = first; token < first + tokens; ++token) {
    for (std::int64_t j = 0; j < top_k; ++j) {
      indices.push_back(scenario.expert(token, j));
      weights.push_back(value<T>("weights", token, j));
    }
    for (std::int64_t i = 0; i < d; ++i) {
      x.push_back(value<T>("x", token, i));
      dy.push_back(value<T>("dy", token, i));
    }
  }
  Layer<T> result;
  result.y.resize(x.size());
  result.dx.resize(x.size());
  result.dweights.resize(weights.size());

  ExchangePlan plan;
  exchange.plan(ctx, view_of(indices.data(), {tokens, top_k}), kExperts, arena, plan);
  const auto received = static_cast<std::size_t>(plan.received);
  const auto row = static_cast<std::size_t>(d);
  std::vector<T> rows(received * row), out(rows.size()), drows(rows.size());
  std::vector<T> row_weights(received), drow_weights(received, T{0});
  const Shape rows_shape = {plan.received, d};
  const Shape tokens_shape = {tokens, d};

  exchange.dispatch_begin(ctx, plan, view_of(x.data(), tokens_shape),
                          view_of(rows.data(), rows_shape));
  exchange.dispatch_weights(ctx, plan, view_of(weights.data(), {tokens, top_k}),
                            view_of(row_weights.data(), {plan.received}));
  exchange.dispatch_end(ctx);
  const auto for_each_row = [&](auto&& visit) {
    for (std::int64_t e = 0; e < exchange.local_experts(kExperts); ++e) {
      const T factor = static_cast<T>(1 + exchange.first_expert(kExperts) + e);
      const auto expert = static_cast<std::size_t>(e);
      for (auto r = static_cast<std::size_t>(plan.expert_offsets[expert]);
           r < static_cast<std::size_t>(plan.expert_offsets[expert + 1]); ++r)
        visit(r, factor);
    }
  };
  for_each_row([&](std::size_t r, T factor) {
    for (std::size_t i = r * row; i < (r + 1) * row; ++i)
      out[i] = factor * row_weights[r] * rows[i];
  });
  // The backward's dispatch while the forward's combine is on its way.
  std::vector<T> dout(rows.size());
  exchange.combine_begin(ctx, plan, view_of(out.data(), rows_shape),
                         view_of(result.y.data(), tokens_shape));
  exchange.dispatch_begin(ctx, plan, view_of(dy.data(), tokens_shape),
                          view_of(dout.data(), rows_shape));
  exchange.combine_end(ctx);
  exchange.dispatch_end(ctx);
  for_each_row([&](std::size_t r, T factor) {
    for (std::size_t i = r * row; i < (r + 1) * row; ++i) {
      drows[i] = factor * row_weights[r] * dout[i];
      drow_weights[r] += factor * rows[i] * dout[i];
    }
  });
  exchange.combine_begin(ctx, plan, view_of(drows.data(), rows_shape),
                         view_of(result.dx.data(), tokens_shape));
  exchange.return_weights(ctx, plan, view_of(drow_weights.data(), {plan.received}),
                          view_of(result.dweights.data(), {tokens, top_k}));
  exchange.combine_end(ctx);
  return result;
}

template <class T>
std::vector<T> part(const std::vector<T>& whole, std::int64_t begin, std::int64_t size) {
  return {whole.begin() + begin, whole.begin() + begin + size};
}

// Every rank's tokens through `group`, against all tokens of the group through one rank.
template <class T>
void compare_with_one_rank(Communicator& group) {
  const auto exchange = make_token_exchange(group);
  ASSERT_EQ(exchange->ranks(), group.size());
  ASSERT_EQ(exchange->rank(), group.rank());
  for (const Scenario& scenario : scenarios(group.size())) {
    for (const std::int64_t d : {1, 3, 32}) {
      std::int64_t first = 0;
      std::int64_t all = 0;
      for (int rank = 0; rank < group.size(); ++rank) {
        if (rank == group.rank()) first = all;
        all += scenario.tokens[static_cast<std::size_t>(rank)];
      }
      const std::int64_t mine = scenario.tokens[static_cast<std::size_t>(group.rank())];
      Arena arena;
      LocalTokenExchange local;
      const Layer<T> expected = run_layer<T>(local, scenario, 0, all, d, arena);
      const Layer<T> found = run_layer<T>(*exchange, scenario, first, mine, d, arena);
      EXPECT_EQ(found.y, part(expected.y, first * d, mine * d)) << scenario.name;
      EXPECT_EQ(found.dx, part(expected.dx, first * d, mine * d)) << scenario.name;
      EXPECT_EQ(found.dweights,
                part(expected.dweights, first * scenario.top_k, mine * scenario.top_k))
          << scenario.name;
    }
  }
}

TEST(EpTokenExchangeTest, EqualsOneRankFloat32) {
  const Mesh mesh(mpi(), mpi().size(), kWatchdogSeconds);
  compare_with_one_rank<float>(mesh.expert());
}

TEST(EpTokenExchangeTest, EqualsOneRankFloat64) {
  const Mesh mesh(mpi(), mpi().size(), kWatchdogSeconds);
  compare_with_one_rank<double>(mesh.expert());
}

TEST(EpTokenExchangeTest, EqualsOneRankOnTwoPretendedNodes) {
  if (mpi().size() != 4) GTEST_SKIP() << "needs 4 ranks";
  const auto node_of_rank = [](int rank) { return rank / 2; };
  const Mesh inside(mpi(), 2, kWatchdogSeconds, node_of_rank);
  EXPECT_EQ(inside.nodes(), 2);
  EXPECT_FALSE(inside.experts_cross_nodes());
  compare_with_one_rank<double>(inside.expert());
  const Mesh across(mpi(), 4, kWatchdogSeconds, node_of_rank);
  EXPECT_TRUE(across.experts_cross_nodes());
  compare_with_one_rank<double>(across.expert());
}

// Rows of a local expert come by source rank, then token, then choice.
TEST(EpTokenExchangeTest, OrderOfRowsInsideAnExpert) {
  const Mesh mesh(mpi(), mpi().size(), kWatchdogSeconds);
  const auto exchange = make_token_exchange(mesh.expert());
  const int ranks = exchange->ranks();
  const Context ctx;
  Arena arena;
  ExchangePlan plan;
  // Token t of rank r chooses every rank's first expert, and its second one if t is odd.
  const std::int64_t tokens = 3;
  std::vector<std::int32_t> indices;
  for (std::int64_t t = 0; t < tokens; ++t)
    for (int peer = ranks - 1; peer >= 0; --peer)
      indices.push_back(static_cast<std::int32_t>(peer * kExperts / ranks + t % 2));
  exchange->plan(ctx, view_of(indices.data(), {tokens, ranks}), kExperts, arena, plan);
  std::vector<float> x, expected;
  for (std::int64_t t = 0; t < tokens; ++t)
    x.push_back(static_cast<float>(10 * exchange->rank() + static_cast<int>(t)));
  for (const std::int64_t odd : {0, 1})
    for (int rank = 0; rank < ranks; ++rank)
      for (std::int64_t t = odd; t < tokens; t += 2)
        expected.push_back(static_cast<float>(10 * rank + static_cast<int>(t)));
  std::vector<float> rows(static_cast<std::size_t>(plan.received));
  exchange->dispatch(ctx, plan, view_of(x.data(), {tokens, 1}),
                     view_of(rows.data(), {plan.received, 1}));
  EXPECT_EQ(rows, expected);
}

TEST(EpTokenExchangeTest, NoAllocationOnceTheLargestStepWasSeen) {
  const Mesh mesh(mpi(), mpi().size(), kWatchdogSeconds);
  const auto exchange = make_token_exchange(mesh.expert());
  const std::int64_t d = 512;
  const Scenario scenario = scenarios(exchange->ranks())[6];
  Arena arena;
  run_layer<float>(*exchange, scenario, 0, 200, d, arena);
  arena.reset();
  const std::int64_t before = allocation_stats(DeviceType::kCpu).allocations;
  for (const std::int64_t tokens : {200, 10, 0, 200}) {
    run_layer<float>(*exchange, scenario, 0, tokens, d, arena);
    arena.reset();
  }
  EXPECT_EQ(allocation_stats(DeviceType::kCpu).allocations, before);
}

TEST(EpTokenExchangeTest, MisuseIsAnError) {
  const Mesh mesh(mpi(), mpi().size(), kWatchdogSeconds);
  if (mesh.expert().size() == 1) GTEST_SKIP() << "needs two ranks";
  const auto exchange = make_token_exchange(mesh.expert());
  EXPECT_THROW(exchange->dispatch_end({}), Error);
  EXPECT_THROW(exchange->combine_end({}), Error);
}

}  // namespace
}  // namespace witan
