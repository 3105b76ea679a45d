#include "core/ops/attention.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/ops/attention_case.h"
#include "tests/support/gradient_check.h"

namespace witan {
namespace {

using test::AttentionCase;
using test::document_starts;
using test::small_cases;
using test::tile_cases;
using test::Values;

// Softmax attention as its definition says it: scores of one query, then a weighted sum of values.
void naive_attention(const AttentionCase& c, Values& out, Values& lse) {
  const std::int64_t d = c.head_dim;
  const double scale = c.shape().scale;
  for (std::int64_t t = 0; t < c.tokens; ++t) {
    const std::int64_t first = t - t % c.seq_len;
    for (std::int64_t h = 0; h < c.heads; ++h) {
      const std::int64_t kv = h / (c.heads / c.kv_heads);
      const double* q = &c.qkv[static_cast<std::size_t>(t * c.width + h * d)];
      std::vector<double> weights;
      double sum = 0.0;
      for (std::int64_t s = first + c.first_key[static_cast<std::size_t>(t)]; s <= t; ++s) {
        const double* k = &c.qkv[static_cast<std::size_t>(s * c.width + (c.heads + kv) * d)];
        double score = 0.0;
        for (std::int64_t i = 0; i < d; ++i) score += q[i] * k[i];
        weights.push_back(std::exp(score * scale));
        sum += weights.back();
      }
      lse.push_back(std::log(sum));
      for (std::int64_t i = 0; i < c.v_dim; ++i) {
        double value = 0.0;
        std::int64_t s = first + c.first_key[static_cast<std::size_t>(t)];
        for (double weight : weights) {
          const std::int64_t at = s++ * c.width + (c.heads + c.kv_heads) * d + kv * c.v_dim + i;
          value += weight / sum * c.qkv[static_cast<std::size_t>(at)];
        }
        out.push_back(value);
      }
    }
  }
}

TEST(Attention, MatchesNaiveSoftmax) {
  std::vector<AttentionCase> all = small_cases();
  for (const AttentionCase& c : tile_cases()) all.push_back(c);
  for (const AttentionCase& c : all) {
    Values out;
    Values lse;
    naive_attention(c, out, lse);
    const test::Outputs found = c.run(DType::kFloat64);
    test::expect_close("out", found[0].values, out, test::kFloat64LevelTolerance);
    test::expect_close("lse", found[1].values, lse, test::kFloat64LevelTolerance);
  }
}

TEST(Attention, BackwardMatchesCentralDifferences) {
  const test::ScopedThreads one(1);  // thousands of tiny calls
  for (AttentionCase c : small_cases()) {
    const test::Outputs outputs = c.run(DType::kFloat64);
    test::expect_gradient("dqkv", c.qkv, outputs[2].values,
                          [&] { return test::project(c.forward(), c.projection); });
  }
}

// Whole tiles: one directional derivative instead of one per element.
TEST(Attention, BackwardMatchesADirectionalDifference) {
  for (AttentionCase c : tile_cases()) {
    const Values gradient = c.run(DType::kFloat64)[2].values;
    for (std::uint64_t seed : {11, 12, 13}) {
      const Values direction = test::random_normal(c.tokens * c.width, seed);
      const Values at = c.qkv;
      const auto loss = [&](double step) {
        for (std::size_t i = 0; i < at.size(); ++i) c.qkv[i] = at[i] + step * direction[i];
        const double value = test::project(c.forward(), c.projection);
        c.qkv = at;
        return value;
      };
      const double numeric = (loss(1e-5) - loss(-1e-5)) / 2e-5;
      const double by_hand = test::project(gradient, direction);
      double norm = 0.0;
      for (double g : gradient) norm += g * g;
      EXPECT_NEAR(numeric, by_hand, 1e-6 * std::sqrt(norm));
    }
  }
}

TEST(Attention, EveryLevelMatchesFloat64) {
  std::vector<AttentionCase> all = small_cases();
  for (const AttentionCase& c : tile_cases()) all.push_back(c);
  for (const AttentionCase& c : all) {
    test::check_op([&](DType dtype) { return c.run(dtype); }, test::kFloat32AttentionTolerance);
  }
}

// Tokens of another document must have no influence at all, not a small one.
TEST(Attention, DocumentsDoNotSeeEachOther) {
  AttentionCase c = {1, 150, 2, 1, 16, true};
  const Values before = c.forward();
  const auto boundary = static_cast<std::size_t>(c.first_key.back());
  ASSERT_GT(boundary, 0u);
  for (std::size_t i = 0; i < boundary * static_cast<std::size_t>(c.width); ++i) c.qkv[i] += 3.0;
  const Values after = c.forward();
  for (std::size_t i = boundary * 32; i < before.size(); ++i) ASSERT_EQ(before[i], after[i]) << i;
}

// A prompt of `length` tokens, of which the last `fresh` are new, against the rows of attention.
void check_cached(std::int64_t fresh, const std::vector<std::int32_t>& lengths, DType dtype,
                  double tolerance) {
  constexpr std::int64_t kCapacity = 150;
  const auto batch = static_cast<std::int64_t>(lengths.size());
  const AttentionCase c = {batch, kCapacity, 4, 2, 20, false};
  const Values all = c.forward();
  const std::int64_t q_width = c.heads * c.head_dim;
  const std::int64_t kv_width = c.kv_heads * c.head_dim;
  Values q, k, v, expected;
  for (std::int64_t b = 0; b < batch; ++b) {
    const std::int64_t length = lengths[static_cast<std::size_t>(b)];
    for (std::int64_t t = 0; t < kCapacity; ++t) {
      const auto row = c.qkv.begin() + (b * kCapacity + t) * c.width;
      if (t >= length - fresh && t < length) {
        q.insert(q.end(), row, row + q_width);
        const auto out = all.begin() + (b * kCapacity + t) * q_width;
        expected.insert(expected.end(), out, out + q_width);
      }
      // Rows beyond the length are not valid and must not be read as if they were.
      const Values invalid(static_cast<std::size_t>(kv_width), std::nan(""));
      const auto key = t < length ? row + q_width : invalid.begin();
      const auto value = t < length ? row + q_width + kv_width : invalid.begin();
      k.insert(k.end(), key, key + kv_width);
      v.insert(v.end(), value, value + kv_width);
    }
  }
  ops::AttentionShape shape = c.shape();
  shape.seq_len = fresh;
  const Tensor out = test::unwritten({batch * fresh, q_width}, dtype);
  ops::attention_cached({}, shape, test::tensor_of(q, {batch * fresh, q_width}, dtype),
                        test::tensor_of(k, {batch, kCapacity, kv_width}, dtype),
                        test::tensor_of(v, {batch, kCapacity, kv_width}, dtype),
                        test::tensor_of(lengths, {batch}), out);
  test::expect_close("out", test::values_of(out), expected, tolerance);
}

TEST(AttentionCached, EqualsTheLastRowsOfAttention) {
  for (CpuIsa isa : test::executable_isas()) {
    SCOPED_TRACE(name_of(isa));
    const test::ScopedIsa level(isa);
    for (std::int64_t fresh : {1, 3, 8, 30}) {
      SCOPED_TRACE(fresh);
      check_cached(fresh, {30, 149, 64}, DType::kFloat64, test::kFloat64LevelTolerance);
      check_cached(fresh, {31, 150, 65}, DType::kFloat32, test::kFloat32AttentionTolerance);
    }
  }
}

// Values that are the first elements of the keys, as in the latent cache.
TEST(AttentionCached, ValuesMayBeAPartOfTheKeys) {
  constexpr std::int64_t kKeys = 70;
  for (std::int64_t fresh : {1, 12}) {
    AttentionCase c = {1, kKeys, 4, 1, 10, false, 1.0, 6};
    for (std::int64_t t = 0; t < kKeys; ++t) {
      const auto key = c.qkv.begin() + t * c.width + 40;
      std::copy(key, key + 6, key + 10);
    }
    const Values all = c.forward();
    Values q, k;
    for (std::int64_t t = 0; t < kKeys; ++t) {
      const auto row = c.qkv.begin() + t * c.width;
      if (t >= kKeys - fresh) q.insert(q.end(), row, row + 40);
      k.insert(k.end(), row + 40, row + 50);
    }
    ops::AttentionShape shape = c.shape();
    shape.seq_len = fresh;
    const Tensor out = test::unwritten({fresh, 24}, DType::kFloat64);
    const std::vector<std::int32_t> lengths = {kKeys};
    ops::attention_cached({}, shape, test::tensor_of(q, {fresh, 40}, DType::kFloat64),
                          test::tensor_of(k, {1, kKeys, 10}, DType::kFloat64), {},
                          test::tensor_of(lengths, {1}), out);
    test::expect_close("out", test::values_of(out), {all.end() - fresh * 24, all.end()},
                       test::kFloat64LevelTolerance);
    shape.v_dim = 11;
    EXPECT_THROW(ops::attention_cached({}, shape, test::tensor_of(q, {fresh, 40}, DType::kFloat64),
                                       test::tensor_of(k, {1, kKeys, 10}, DType::kFloat64), {},
                                       test::tensor_of(lengths, {1}), out),
                 Error);
  }
}

TEST(Attention, RefusesWhatItCannotDo) {
  AttentionCase future = {1, 4, 1, 1, 2, false};
  future.first_key[2] = 3;
  EXPECT_THROW(future.forward(), Error);
  AttentionCase uneven = {1, 4, 3, 2, 2, false};
  EXPECT_THROW(uneven.forward(), Error);
}

}  // namespace
}  // namespace witan
