// Dispatch, experts, combine and their backwards over 1 to 4 ranks against the same tokens on one
// rank, bit for bit.
#include "parallel/ep_token_exchange.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
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

// What a layer gives for one rank's tokens.
template <class T>
struct Layer {
  std::vector<T> y, dx, dweights;
};

// Small whole numbers: every sum is exact, whatever its order.
template <class T>
T value(const char* what, std::int64_t token, std::int64_t index) {
  const Random random(11, what);
  const auto at = static_cast<std::uint64_t>(token * 1000 + index);
  return static_cast<T>(random.below(at, 9)) - T{4};
}

template <class T>
const T* row_of(const DispatchedRows& rows, const ExchangePlan& plan, std::size_t slot) {
  const std::int64_t source = plan.source_of_slot.as<std::int32_t>()[slot];
  const std::int64_t d = rows.own.cols();
  return source < plan.tokens ? rows.own.as<T>() + source * d
                              : rows.others.as<T>() + (source - plan.tokens) * d;
}

// The experts of the test: a row times its weight and a factor of the expert, summed over the slots
// of the row; the same backward. Then dw is the row's product with the gradient.
template <class T>
class Experts {
 public:
  Experts(const TokenExchange& exchange, const ExchangePlan& plan) : plan_(plan) {
    for (std::int64_t e = 0; e < exchange.local_experts(kExperts); ++e) {
      const auto expert = static_cast<std::size_t>(e);
      const std::int64_t slots = plan.expert_offsets[expert + 1] - plan.expert_offsets[expert];
      factors_.insert(factors_.end(), static_cast<std::size_t>(slots),
                      static_cast<T>(1 + exchange.first_expert(kExperts) + e));
    }
  }
  // out [rows, d] = sum over slots of factor * weight * row.
  void scale(const DispatchedRows& rows, const std::vector<T>& weights,
             const TensorView& out) const {
    std::fill_n(out.as<T>(), out.size(), T{0});
    const std::int64_t d = out.cols();
    for_each_slot([&](std::size_t slot, std::int64_t row) {
      const T factor = factors_[slot] * weights[slot];
      const T* from = row_of<T>(rows, plan_, slot);
      for (std::int64_t i = 0; i < d; ++i) out.as<T>()[row * d + i] += factor * from[i];
    });
  }
  std::vector<T> products(const DispatchedRows& rows, const DispatchedRows& dout) const {
    std::vector<T> dweights(factors_.size(), T{0});
    for_each_slot([&](std::size_t slot, std::int64_t) {
      const T* x = row_of<T>(rows, plan_, slot);
      const T* dy = row_of<T>(dout, plan_, slot);
      for (std::int64_t i = 0; i < rows.own.cols(); ++i)
        dweights[slot] += factors_[slot] * x[i] * dy[i];
    });
    return dweights;
  }

 private:
  template <class Visit>
  void for_each_slot(Visit&& visit) const {
    for (std::size_t slot = 0; slot < factors_.size(); ++slot)
      visit(slot, plan_.row_of_slot.as<std::int32_t>()[slot]);
  }
  const ExchangePlan& plan_;
  std::vector<T> factors_;  // [slots]
};

// The MoE layer's communication, forward and backward, for tokens [first, first + tokens) of the
// group.
template <class T>
Layer<T> run_layer(TokenExchange& exchange, const Scenario& scenario, std::int64_t first,
                   std::int64_t tokens, std::int64_t d, Arena& arena, Arena& rows_arena) {
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
  const Shape shape = {tokens, d};
  rows_arena.reset();
  const TensorView xs = rows_arena.allocate(shape, dtype_of<T>::value);
  const TensorView dys = rows_arena.allocate(shape, dtype_of<T>::value);
  std::copy(x.begin(), x.end(), xs.as<T>());
  std::copy(dy.begin(), dy.end(), dys.as<T>());
  const TensorView y = view_of(result.y.data(), shape);
  const TensorView dx = view_of(result.dx.data(), shape);

  ExchangePlan plan;
  exchange.plan(ctx, view_of(indices.data(), {tokens, top_k}), kExperts, {}, arena, plan);
  const Experts<T> experts(exchange, plan);
  const TensorView slots = arena.allocate({plan.slots}, dtype_of<T>::value);

  exchange.dispatch_begin(ctx, plan, xs, arena);
  exchange.dispatch_weights(ctx, plan, view_of(weights.data(), {tokens, top_k}), slots);
  const std::vector<T> slot_weights(slots.as<T>(), slots.as<T>() + plan.slots);
  const DispatchedRows rows = exchange.dispatch_end(ctx);
  EXPECT_EQ(rows.own.shape, shape);
  const TensorView out = exchange.combine_input(plan, y, arena);
  experts.scale(rows, slot_weights, out);
  // The backward's dispatch while the forward's combine is on its way.
  exchange.combine_begin(ctx, plan, out, y);
  exchange.dispatch_begin(ctx, plan, dys, arena);
  exchange.combine_end(ctx);
  const DispatchedRows dout = exchange.dispatch_end(ctx);
  // Not where the exchange would have it.
  const TensorView drows = arena.allocate({plan.rows, d}, dys.dtype);
  experts.scale(dout, slot_weights, drows);
  const std::vector<T> dslot_weights = experts.products(rows, dout);
  exchange.combine_begin(ctx, plan, drows, dx);
  exchange.return_weights(ctx, plan, view_of(dslot_weights.data(), {plan.slots}),
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
void compare_with_one_rank(Communicator& group, const ExchangeOptions& options) {
  const auto exchange = make_token_exchange(group, options);
  ASSERT_EQ(exchange->ranks(), group.size());
  ASSERT_EQ(exchange->rank(), group.rank());
  // Rows that the other ranks see, and others.
  Arena arenas[2] = {Arena(Device{}, "rows", exchange->memory()), Arena()};
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
      const Layer<T> expected = run_layer<T>(local, scenario, 0, all, d, arena, arenas[0]);
      for (Arena& rows_arena : arenas) {
        const Layer<T> found = run_layer<T>(*exchange, scenario, first, mine, d, arena, rows_arena);
        EXPECT_EQ(found.y, part(expected.y, first * d, mine * d)) << scenario.name;
        EXPECT_EQ(found.dx, part(expected.dx, first * d, mine * d)) << scenario.name;
        EXPECT_EQ(found.dweights,
                  part(expected.dweights, first * scenario.top_k, mine * scenario.top_k))
            << scenario.name;
      }
    }
  }
}

// Every way of sending, the same numbers.
std::vector<ExchangeOptions> every_option(const Mesh& mesh) {
  std::vector<ExchangeOptions> all;
  for (const RowsPer rows_per : {RowsPer::kRank, RowsPer::kChoice}) {
    for (const ExchangeTransport transport :
         {ExchangeTransport::kSharedWindows, ExchangeTransport::kAllToAll}) {
      all.push_back({rows_per, transport, ops::WireFormat::kAsIs, mesh.node(), 1});
    }
  }
  return all;
}

TEST(EpTokenExchangeTest, EqualsOneRankFloat32) {
  const Mesh mesh(mpi(), mpi().size(), kWatchdogSeconds);
  for (const ExchangeOptions& options : every_option(mesh)) {
    compare_with_one_rank<float>(mesh.expert(), options);
  }
}

TEST(EpTokenExchangeTest, EqualsOneRankFloat64) {
  const Mesh mesh(mpi(), mpi().size(), kWatchdogSeconds);
  for (const ExchangeOptions& options : every_option(mesh)) {
    compare_with_one_rank<double>(mesh.expert(), options);
  }
}

TEST(EpTokenExchangeTest, EqualsOneRankOnTwoPretendedNodes) {
  if (mpi().size() != 4) GTEST_SKIP() << "needs 4 ranks";
  const auto node_of_rank = [](int rank) { return rank / 2; };
  const Mesh inside(mpi(), 2, kWatchdogSeconds, node_of_rank);
  EXPECT_EQ(inside.nodes(), 2);
  EXPECT_FALSE(inside.experts_cross_nodes());
  const Mesh across(mpi(), 4, kWatchdogSeconds, node_of_rank);
  EXPECT_TRUE(across.experts_cross_nodes());
  for (const ExchangeOptions& options : every_option(inside)) {
    compare_with_one_rank<double>(inside.expert(), options);
  }
  for (const ExchangeOptions& options : every_option(across)) {
    compare_with_one_rank<double>(across.expert(), options);
  }
}

// On the network only: a rank's own rows, and those inside a node, keep their bits.
TEST(EpTokenExchangeTest, Bfloat16RoundsWhatCrossesTheNetwork) {
  const Mesh mesh(mpi(), mpi().size(), kWatchdogSeconds);
  const Scenario scenario = scenarios(mpi().size())[6];  // sums of more than 8 bits
  const std::int64_t tokens = scenario.tokens[static_cast<std::size_t>(mpi().rank())];
  constexpr std::int64_t kWidth = 67;
  const auto run = [&](ExchangeTransport transport, ops::WireFormat format) {
    const auto exchange =
        make_token_exchange(mesh.expert(), {RowsPer::kRank, transport, format, mesh.node(), 1});
    Arena arena, rows_arena;
    return run_layer<float>(*exchange, scenario, 0, tokens, kWidth, arena, rows_arena);
  };
  const Layer<float> exact = run(ExchangeTransport::kAllToAll, ops::WireFormat::kAsIs);
  EXPECT_EQ(run(ExchangeTransport::kSharedWindows, ops::WireFormat::kBfloat16).y, exact.y);
  const Layer<float> rounded = run(ExchangeTransport::kAllToAll, ops::WireFormat::kBfloat16);
  // Not at every rank: the sums of the first experts are small.
  std::int64_t differs = rounded.y == exact.y ? 0 : 1;
  mesh.expert().all_reduce(view_of(&differs, {1}), ReduceOp::kSum).wait();
  EXPECT_EQ(differs > 0, mpi().size() > 1);
  double error = 0.0;
  double norm = 0.0;
  for (std::size_t i = 0; i < exact.y.size(); ++i) {
    error += std::pow(rounded.y[i] - exact.y[i], 2.0);
    norm += std::pow(exact.y[i], 2.0);
  }
  EXPECT_LT(std::sqrt(error), std::sqrt(norm) / 256.0);  // half a unit in the last of 8 bits
}

// Rows come by source rank, then token, once each; slots by expert, then row.
TEST(EpTokenExchangeTest, OrderOfRowsAndSlots) {
  const Mesh mesh(mpi(), mpi().size(), kWatchdogSeconds);
  const auto exchange = make_token_exchange(mesh.expert(), {.node = mesh.node()});
  const int ranks = exchange->ranks();
  const Context ctx;
  Arena arena;
  ExchangePlan plan;
  // Every token chooses the first expert of every rank, odd tokens also the second one.
  const std::int64_t tokens = 3;
  const std::int64_t top_k = 2 * ranks;
  std::vector<std::int32_t> indices;
  for (std::int64_t t = 0; t < tokens; ++t)
    for (std::int64_t j = 0; j < top_k; ++j)
      indices.push_back(
          static_cast<std::int32_t>((ranks - 1 - j / 2) * kExperts / ranks + (t % 2) * (j % 2)));
  exchange->plan(ctx, view_of(indices.data(), {tokens, top_k}), kExperts, {}, arena, plan);
  EXPECT_EQ(plan.rows, tokens * ranks);
  EXPECT_EQ(plan.slots, tokens * 2 * ranks);
  std::vector<float> x;
  std::vector<float> expected;
  for (std::int64_t t = 0; t < tokens; ++t)
    x.push_back(static_cast<float>(10 * exchange->rank() + static_cast<int>(t)));
  for (int rank = 0; rank < ranks; ++rank)
    for (std::int64_t t = 0; t < tokens; ++t)
      expected.push_back(static_cast<float>(10 * rank + static_cast<int>(t)));
  const DispatchedRows rows = exchange->dispatch(ctx, plan, view_of(x.data(), {tokens, 1}), arena);
  EXPECT_EQ(rows.own.data, x.data());  // this rank's tokens are not copied
  const auto* row = plan.row_of_slot.as<std::int32_t>();
  for (std::int64_t slot = 0; slot < plan.slots; ++slot) {
    EXPECT_EQ(*row_of<float>(rows, plan, static_cast<std::size_t>(slot)),
              expected[static_cast<std::size_t>(row[slot])]);
  }

  for (std::size_t e = 0; e + 1 < plan.expert_offsets.size(); ++e) {
    EXPECT_TRUE(std::is_sorted(row + plan.expert_offsets[e], row + plan.expert_offsets[e + 1]));
  }
  EXPECT_EQ(plan.expert_offsets[1], ranks * (2 * tokens - 1));  // all but the odd token's second
}

TEST(EpTokenExchangeTest, NoAllocationOnceTheLargestStepWasSeen) {
  const Mesh mesh(mpi(), mpi().size(), kWatchdogSeconds);
  const auto exchange = make_token_exchange(mesh.expert(), {.node = mesh.node()});
  const std::int64_t d = 512;
  const Scenario scenario = scenarios(exchange->ranks())[6];
  Arena arena;
  Arena rows_arena(Device{}, "rows", exchange->memory());
  run_layer<float>(*exchange, scenario, 0, 200, d, arena, rows_arena);
  arena.reset();
  const std::int64_t before = allocation_stats(DeviceType::kCpu).allocations;
  for (const std::int64_t tokens : {200, 10, 0, 200}) {
    run_layer<float>(*exchange, scenario, 0, tokens, d, arena, rows_arena);
    arena.reset();
  }
  EXPECT_EQ(allocation_stats(DeviceType::kCpu).allocations, before);
}

TEST(EpTokenExchangeTest, MisuseIsAnError) {
  const Mesh mesh(mpi(), mpi().size(), kWatchdogSeconds);
  if (mesh.expert().size() == 1) GTEST_SKIP() << "needs two ranks";
  const auto exchange = make_token_exchange(mesh.expert(), {.node = mesh.node()});
  EXPECT_THROW(exchange->dispatch_end({}), Error);
  EXPECT_THROW(exchange->combine_end({}), Error);
}

}  // namespace
}  // namespace witan
