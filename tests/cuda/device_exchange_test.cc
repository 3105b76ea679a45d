// The token exchange of GPUs against that of the host, at any number of ranks: the same lists, the
// same rows and weights, and a host that waits for nothing but the sizes of a plan.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "core/base/rng.h"
#include "core/model/exchange_plan.h"
#include "core/ops/permute.h"
#include "core/ops/topk.h"
#include "launch/runtime.h"
#include "parallel/device_communicator.h"
#include "parallel/ep_token_exchange.h"
#include "tests/cuda/cuda_case.h"
#include "tests/cuda/trainer_cuda_case.h"
#include "tests/support/cuda_on_cpu/control.h"

namespace witan::test {
namespace {

constexpr std::int64_t kExperts = 12;  // divides over 1, 2, 3 and 4 ranks

// What this rank's tokens choose.
struct Routing {
  std::string name;
  std::int64_t tokens, top_k;
  std::vector<std::int32_t> experts;  // [tokens, top_k]
  TokenExchange::Padding padding = {};

  TensorView indices() const { return view_of(experts.data(), {tokens, top_k}); }
};

// Distinct experts for each token; every `gap`-th choice is none (0: all are some).
Routing routing(std::string name, std::int64_t tokens, std::int64_t top_k, int gap,
                std::int64_t experts = kExperts) {
  const Random random(7, "test routing", name);
  Routing made{std::move(name), tokens, top_k, {}};
  for (std::int64_t token = 0; token < tokens; ++token) {
    const auto at = static_cast<std::uint64_t>(1000 * world().rank() + token);
    const auto start =
        static_cast<std::int64_t>(random.below(at, static_cast<std::uint64_t>(experts)));
    for (std::int64_t j = 0; j < top_k; ++j) {
      const bool none = gap > 0 && (token * top_k + j) % gap == 0;
      made.experts.push_back(none ? ops::kNoChoice
                                  : static_cast<std::int32_t>((start + j * 5) % experts));
    }
  }
  return made;
}

std::int64_t most_chosen(const Routing& made) {
  std::int64_t most = 0;
  for (std::int32_t expert = 0; expert < kExperts; ++expert) {
    most =
        std::max<std::int64_t>(most, std::count(made.experts.begin(), made.experts.end(), expert));
  }
  return most;
}

// `few`: two of them, for a transport that is the same whatever travels.
std::vector<Routing> routings(bool padded, bool few) {
  const std::int64_t rank = world().rank();
  std::vector<Routing> all = {
      routing("top-1", 5 + 7 * rank, 1, 0),
      routing("top-3", 11 + 3 * rank, 3, 0),
      routing("several tiles", 150 + rank, 4, 0),
      routing("choices that are none", 90 + rank, 4, 3),
      routing("no choice at all", 6, 2, 1),
      routing("ranks without tokens", rank % 2 == 0 ? 0 : 9, 2, 0),
      routing("nobody has tokens", 0, 2, 0),
      routing("all to the first experts", 40, 3, 7, 3),
  };
  if (few) all = {all[3], all[5]};
  if (!padded) return all;
  for (Routing& made : all) made.padding.places = most_chosen(made) + rank;
  const auto add_even = [&](Routing made) {  // as many places as tokens are always enough
    made.padding = {made.tokens, true};
    all.push_back(std::move(made));
  };
  add_even(routing("as many tokens on every rank", 13, 3, 5));
  add_even(routing("as many tokens on every rank: none", 0, 3, 0));
  return all;
}

class DeviceExchange : public OnGpus, public ::testing::WithParamInterface<DeviceTransport> {
 protected:
  void SetUp() override {
    OnGpus::SetUp();
    if (world().size() == 1 && is_staged()) {
      GTEST_SKIP() << "one rank sends nothing";
    }
    stream_.emplace(gpu_of_rank(mpi().local_rank()));
    auto host = mpi().split(0, "group", kWatchdogSeconds);
    host_group_ = mpi().split(0, "host group", kWatchdogSeconds);
    if (world().size() == 1) {
      group_ = make_self_communicator("group", ctx());
    } else if (GetParam() == DeviceTransport::kNccl) {
      group_ = make_nccl_communicator(std::move(host), ctx(), kWatchdogSeconds);
    } else {
      group_ = make_staged_communicator(std::move(host), ctx());
    }
  }
  void TearDown() override {
    group_.reset();
    stream_.reset();
    world().barrier();
    OnGpus::TearDown();
  }
  const Context& ctx() const { return stream_->context(); }
  static bool is_staged() { return GetParam() == DeviceTransport::kStagedMpi; }
  std::unique_ptr<TokenExchange> on_host(RowsPer rows_per,
                                         ops::WireFormat format = ops::WireFormat::kAsIs) {
    return make_token_exchange(
        *host_group_,
        {.rows_per = rows_per, .transport = ExchangeTransport::kAllToAll, .format = format},
        Device{});
  }
  std::unique_ptr<TokenExchange> on_device(RowsPer rows_per,
                                           ops::WireFormat format = ops::WireFormat::kAsIs) {
    return make_token_exchange(*group_, {.rows_per = rows_per, .format = format}, ctx().device);
  }

  std::optional<DeviceStream> stream_;
  std::unique_ptr<Communicator> group_, host_group_;
};

INSTANTIATE_TEST_SUITE_P(Transports, DeviceExchange,
                         ::testing::Values(DeviceTransport::kNccl, DeviceTransport::kStagedMpi),
                         [](const auto& tested) {
                           return tested.param == DeviceTransport::kNccl ? "Nccl" : "StagedMpi";
                         });

class PlanComparison {
 public:
  PlanComparison(const Context& ctx, const ExchangePlan& found, const ExchangePlan& expected,
                 bool padded)
      : ctx_(ctx), found_(found), expected_(expected), padded_(padded) {}

  void sizes() const {
    EXPECT_EQ(found_.tokens, expected_.tokens);
    EXPECT_EQ(found_.rows, expected_.rows);
    EXPECT_EQ(found_.slots, expected_.slots);
    EXPECT_EQ(found_.expert_offsets, expected_.expert_offsets);
    EXPECT_EQ(found_.rows_to, expected_.rows_to);
    EXPECT_EQ(found_.rows_from, expected_.rows_from);
    EXPECT_EQ(found_.slots_to, expected_.slots_to);
    EXPECT_EQ(found_.slots_from, expected_.slots_from);
  }
  void lists() const {
    same("row_of_slot", found_.row_of_slot, expected_.row_of_slot);
    const ExchangePlan::RowIndices &found = found_.here, &expected = expected_.here;
    same("source_of_slot", found.source_of_slot, expected.source_of_slot);
    same("slots_of_row_begin", found.slots_of_row_begin, expected.slots_of_row_begin);
    const bool local = world().size() == 1;
    same("slots_of_row", found.slots_of_row, expected.slots_of_row, local);
    same("choice_of_sent_slot", found.choice_of_sent_slot, expected.choice_of_sent_slot, local);
    if (local) return;
    same("token_of_sent_row", found.token_of_sent_row, expected.token_of_sent_row);
    same("sent_rows_of_token_begin", found.sent_rows_of_token_begin,
         expected.sent_rows_of_token_begin);
    TensorView rows = found.sent_rows_of_token;  // where padded, nobody reads what is behind
    if (padded_) rows = rows.slice_rows(0, expected.sent_rows_of_token.size());
    same("sent_rows_of_token", rows, expected.sent_rows_of_token);
  }

 private:
  // The host does not know where the choices end if experts are padded.
  void same(const char* what, const TensorView& found, const TensorView& expected,
            bool ends_with_choices = false) const {
    std::vector<std::int32_t> wanted = to_host<std::int32_t>(Context{}, expected);
    if (padded_ && ends_with_choices) {
      wanted.resize(static_cast<std::size_t>(found.size()), ops::kNoChoice);
    }
    EXPECT_EQ(to_host<std::int32_t>(ctx_, found), wanted) << what;
  }

  const Context& ctx_;
  const ExchangePlan &found_, &expected_;
  bool padded_;
};

// Red zones between the tensors of arenas, and memory that begins as nonsense.
struct ArenaGuards {
  ArenaGuards() { cuda_on_cpu::set_arena_guards(true); }
  ~ArenaGuards() { cuda_on_cpu::set_arena_guards(false); }
};

TEST_P(DeviceExchange, PlansOfTheDeviceAreThoseOfTheHost) {
  const ArenaGuards guards;
  Arena host_arena, arena(ctx().device);
  for (const RowsPer rows_per : {RowsPer::kRank, RowsPer::kChoice}) {
    const auto host = on_host(rows_per);
    const auto device = on_device(rows_per);
    for (const bool padded : {false, true}) {
      if (padded && rows_per == RowsPer::kRank && world().size() > 1) continue;
      for (const Routing& made : routings(padded, is_staged())) {
        SCOPED_TRACE(made.name + (padded ? ", padded" : "") +
                     (rows_per == RowsPer::kRank ? ", rows per rank" : ", rows per choice"));
        for (std::uint64_t seed = 0; seed < 2; ++seed) {
          cuda_on_cpu::set_seed(seed + 5);
          host_arena.reset();
          arena.reset();
          ExchangePlan expected, found;
          host->plan({}, made.indices(), kExperts, made.padding, host_arena, expected);
          const TensorView indices =
              arena.allocate({made.tokens, made.top_k}, DType::kInt32, "indices");
          transfer(ctx(), made.indices(), indices);
          device->plan(ctx(), indices, kExperts, made.padding, arena, found);
          const PlanComparison comparison(ctx(), found, expected, padded && made.tokens > 0);
          comparison.sizes();
          comparison.lists();
        }
      }
    }
  }
}

// Normal numbers of this rank.
template <class T>
Tensor values(const Context& ctx, const std::string& name, const Shape& shape) {
  const auto numbers = normal_values<T>(shape.size(), name + std::to_string(world().rank()));
  return transferred(ctx, view_of(numbers.data(), shape), ctx.device);
}

// Rows and weights to the slots, and what is there back to the tokens.
template <class T>
struct ThereAndBack {
  std::vector<T> slot_weights, y, weights;
  std::uint64_t host_waits = 0;
};

template <class T = double>
ThereAndBack<T> there_and_back(const Context& ctx, TokenExchange& exchange,
                               const ExchangePlan& plan, Arena& arena) {
  constexpr DType kType = dtype_of<T>::value;
  constexpr std::int64_t kColumns = 6;
  const Tensor x = values<T>(ctx, "x", {plan.tokens, kColumns});
  const Tensor weights = values<T>(ctx, "weights", {plan.tokens, plan.top_k});
  const Tensor y(x.view().shape, kType, ctx.device);
  const Tensor returned(weights.view().shape, kType, ctx.device);
  const TensorView slots = arena.allocate({plan.slots}, kType, "weights");
  const std::uint64_t waits_before = cuda_on_cpu::host_waits();
  exchange.dispatch_weights(ctx, plan, weights, slots);
  const DispatchedRows rows = exchange.dispatch(ctx, plan, x, arena);
  const TensorView by_slot = arena.allocate({plan.slots, kColumns}, kType, "rows");
  ops::permute(ctx, rows.own, rows.others, plan.here.source_of_slot, by_slot);
  const TensorView out = exchange.combine_input(plan, y, arena);
  ops::unpermute_sum(ctx, by_slot, plan.here.slots_of_row_begin, plan.here.slots_of_row, out);
  exchange.combine(ctx, plan, out, y);
  exchange.return_weights(ctx, plan, slots, returned);
  const std::uint64_t waits = cuda_on_cpu::host_waits() - waits_before;
  return {to_host<T>(ctx, slots), to_host<T>(ctx, y), to_host<T>(ctx, returned), waits};
}

// In every order of the streams; the host enqueues all of it without waiting for anything, but
// where it carries the rows itself.
TEST_P(DeviceExchange, RowsAndWeightsArriveWithoutTheHost) {
  Arena host_arena, arena(ctx().device);
  for (const RowsPer rows_per : {RowsPer::kRank, RowsPer::kChoice}) {
    const auto host = on_host(rows_per);
    const auto device = on_device(rows_per);
    const bool padded = rows_per == RowsPer::kChoice;
    for (const Routing& made : routings(padded, is_staged())) {
      SCOPED_TRACE(made.name);
      host_arena.reset();
      ExchangePlan host_plan;
      host->plan({}, made.indices(), kExperts, made.padding, host_arena, host_plan);
      const auto expected = there_and_back({}, *host, host_plan, host_arena);
      for (std::uint64_t seed = 0; seed < 3; ++seed) {
        cuda_on_cpu::set_seed(10 * seed + static_cast<std::uint64_t>(world().rank()));
        arena.reset();
        ExchangePlan plan;
        const Tensor indices = transferred(ctx(), made.indices(), ctx().device);
        const bool by_host = seed == 0;  // as for routers that are the host's
        device->plan_begin(ctx(), by_host ? made.indices() : indices.view(), kExperts, made.padding,
                           {host_arena, arena}, plan);
        device->plan_end(ctx(), plan);
        (void)group_->take_wait_seconds();
        const auto found = there_and_back(ctx(), *device, plan, arena);
        EXPECT_EQ(found.slot_weights, expected.slot_weights);
        EXPECT_EQ(found.y, expected.y);
        EXPECT_EQ(found.weights, expected.weights);
        if (is_staged()) continue;
        EXPECT_EQ(found.host_waits, 0U);
        EXPECT_EQ(group_->take_wait_seconds(), 0.0);
      }
    }
  }
}

// Rows for other ranks in bfloat16: the bits of the host's exchange, which rounds the same rows and
// adds in the same order.
TEST_P(DeviceExchange, RoundedRowsAreThoseOfTheHost) {
  Arena host_arena, arena(ctx().device);
  for (const RowsPer rows_per : {RowsPer::kRank, RowsPer::kChoice}) {
    const auto host = on_host(rows_per, ops::WireFormat::kBfloat16);
    const auto device = on_device(rows_per, ops::WireFormat::kBfloat16);
    const auto exact = on_device(rows_per);
    bool rounded = false;
    for (const Routing& made : routings(false, true)) {
      SCOPED_TRACE(made.name);
      host_arena.reset();
      ExchangePlan host_plan;
      host->plan({}, made.indices(), kExperts, made.padding, host_arena, host_plan);
      const auto expected = there_and_back<float>({}, *host, host_plan, host_arena);
      for (std::uint64_t seed = 0; seed < 2; ++seed) {
        cuda_on_cpu::set_seed(10 * seed + static_cast<std::uint64_t>(world().rank()));
        arena.reset();
        ExchangePlan plan;
        const Tensor indices = transferred(ctx(), made.indices(), ctx().device);
        device->plan(ctx(), indices, kExperts, made.padding, arena, plan);
        const auto found = there_and_back<float>(ctx(), *device, plan, arena);
        EXPECT_EQ(found.slot_weights, expected.slot_weights);
        EXPECT_EQ(found.y, expected.y);
        EXPECT_EQ(found.weights, expected.weights);
        if (seed > 0) continue;
        arena.reset();
        ExchangePlan again;
        exact->plan(ctx(), indices, kExperts, made.padding, arena, again);
        rounded = rounded || there_and_back<float>(ctx(), *exact, again, arena).y != found.y;
      }
    }
    EXPECT_EQ(rounded, world().size() > 1);
  }
}

// Sizes of plans come to the host while it goes on; none have to where experts are padded and the
// rank knows what the others have.
TEST_P(DeviceExchange, TheHostWaitsOnceForTheSizesOfAPlan) {
  if (is_staged()) GTEST_SKIP() << "the host carries the rows";
  Arena arena(ctx().device);
  const auto device = on_device(RowsPer::kChoice);
  for (const TokenExchange::Padding& padding :
       {TokenExchange::Padding{}, TokenExchange::Padding{20}, TokenExchange::Padding{20, true}}) {
    Routing made = routing("waits", 20, 2, 0);
    made.padding = padding;
    const Tensor indices = transferred(ctx(), made.indices(), ctx().device);
    for (int round = 0; round < 2; ++round) {  // in the first, scratch grows
      arena.reset();
      ExchangePlan first, second;
      const std::uint64_t before = cuda_on_cpu::host_waits();
      for (ExchangePlan* plan : {&first, &second}) {
        device->plan_begin(ctx(), indices, kExperts, made.padding, {arena, arena}, *plan);
      }
      const std::uint64_t begun = cuda_on_cpu::host_waits();
      device->plan_end(ctx(), first);
      device->plan_end(ctx(), second);
      const std::uint64_t ended = cuda_on_cpu::host_waits();
      if (round == 0) continue;
      EXPECT_EQ(begun, before);
      const bool known = padding.even || (padding.places > 0 && world().size() == 1);
      EXPECT_EQ(ended - begun, known ? 0U : 2U);
      EXPECT_EQ(first.slots, second.slots);
    }
  }
}

TEST_P(DeviceExchange, PlansEndInTheOrderOfTheirBegins) {
  Arena arena(ctx().device);
  const auto device = on_device(RowsPer::kChoice);
  const Routing made = routing("order", 20, 2, 0);
  const Tensor indices = transferred(ctx(), made.indices(), ctx().device);
  ExchangePlan first, second;
  device->plan_begin(ctx(), indices, kExperts, {}, {arena, arena}, first);
  device->plan_begin(ctx(), indices, kExperts, {}, {arena, arena}, second);
  EXPECT_TRUE(second.open);
  EXPECT_THROW(device->plan_end(ctx(), second), Error);
  device->plan_end(ctx(), first);
  device->plan_end(ctx(), second);
  EXPECT_FALSE(second.open);
}

}  // namespace
}  // namespace witan::test
