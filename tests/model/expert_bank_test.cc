// A bank of experts gives the same bits whether a thread takes an expert from its rows to its
// results or all threads take one product after another.
#include "core/model/expert_bank.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "core/ops/permute.h"
#include "tests/model/model_case.h"

namespace witan::test {
namespace {

constexpr std::int64_t kExperts = 5, kD = 24, kFf = 20;
using Offsets = std::vector<std::int64_t>;

std::string bits(const TensorView& x) {
  return {static_cast<const char*>(x.data), static_cast<std::size_t>(x.bytes())};
}

struct Bank {
  Bank(const std::string& moe, DType dtype)
      : config(model_config("vocab_size: 11 d_model: 24 layers: 1 max_seq_len: 8 "
                            "attention { heads: 2 } moe { experts: 5 d_ff: 20 router { top_k { k: "
                            "2 } } " +
                            moe + " }")),
        table(config),
        params(table, Model::layout(config), dtype, {}, true),
        bank(config.moe(), params, 0) {
    for (int id = 0; id < table.size(); ++id) {
      fill(params.value(id), static_cast<std::uint64_t>(id));
      if (table[id].trained()) fill(params.grad(id), static_cast<std::uint64_t>(id) + 50);
    }
  }

  static void fill(const TensorView& x, std::uint64_t seed) {
    const std::vector<double> values = normal_values(x.size(), seed, 0.3);
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (x.dtype == DType::kFloat64) {
        x.as<double>()[i] = values[i];
      } else {
        x.as<float>()[i] = static_cast<float>(values[i]);
      }
    }
  }

  // The bits of everything that a forward and a backward leave behind.
  std::string run(const Context& ctx, const Offsets& offsets, ops::Accumulate gradients) {
    const DType dtype = params.dtype();
    const DType stored = bank.stored_type(ctx, dtype);
    const std::int64_t rows = offsets.back();
    Arena arena{Device{}};
    const auto take = [&](std::int64_t cols, DType type) {
      return arena.allocate({rows, cols}, type, "test");
    };
    // Operands of products come as they are stored.
    const auto operand = [&](std::uint64_t seed) {
      const TensorView x = take(kD, dtype);
      fill(x, seed);
      if (stored == dtype) return x;
      const TensorView rounded = take(kD, stored);
      std::vector<std::int32_t> index(static_cast<std::size_t>(rows));
      for (std::size_t i = 0; i < index.size(); ++i) index[i] = static_cast<std::int32_t>(i);
      ops::permute(ctx, x, view_of(index.data(), {rows}), rounded);
      return rounded;
    };
    const TensorView x = operand(7);
    const TensorView dout = operand(8);
    const TensorView weights = arena.allocate({rows}, dtype, "test");
    fill(weights, 9);
    const ExpertBank::Saved saved{take(bank.up_width(), dtype), take(bank.ff(), stored)};
    const TensorView out = take(kD, dtype);
    bank.forward(ctx, x, offsets, weights, saved, out);
    std::string all = bits(out) + bits(saved.h);
    const TensorView dx = take(kD, dtype);
    const TensorView dweights = arena.allocate({rows}, dtype, "test");
    bank.backward(ctx, dout, x, offsets, weights, saved, dx, dweights, gradients, arena);
    all += bits(dx) + bits(dweights);
    for (int id = 0; id < table.size(); ++id) {
      if (table[id].trained()) all += bits(params.grad(id));
    }
    return all;
  }

  configs::ModelConfig config;
  ParamTable table;
  ParamStore params;
  ExpertBank bank;
};

TEST(ExpertBank, SameBitsByAnyNumberOfThreads) {
  const std::vector<Offsets> routings = {
      {0, 20, 40, 40, 64, 84},       // each expert by one thread
      {0, 130, 260, 390, 520, 650},  // with two threads whole experts, with four they are cut
      {0, 3, 3, 300, 300, 301},      // one expert dominates
      {0, 0, 0, 2, 2, 2},            // one expert alone
      {0, 0, 0, 0, 0, 0},            // nobody was routed
  };
  for (const std::string moe :
       {"", "expert_kind: GELU", "expert_bias_terms: true",
        "expert_bias_terms: true swiglu { up_offset: 1 gate_slope: 1.702 clamp: 7 }"}) {
    for (const DType dtype : {DType::kFloat32, DType::kFloat64}) {
      for (const Products products : {Products::kFull, Products::kBfloat16}) {
        if (dtype == DType::kFloat64 && products == Products::kBfloat16) continue;
        Context ctx;
        ctx.products = products;
        for (const Offsets& offsets : routings) {
          for (const ops::Accumulate gradients : {ops::Accumulate::kNo, ops::Accumulate::kYes}) {
            std::string expected;
            for (int threads = 1; threads <= 4; ++threads) {
              const ScopedThreads scoped(threads);
              const std::string found = Bank(moe, dtype).run(ctx, offsets, gradients);
              if (threads == 1) expected = found;
              EXPECT_TRUE(found == expected) << moe << ", " << name_of(dtype) << ", " << offsets[2]
                                             << " rows before expert 2, " << threads << " threads";
            }
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace witan::test
