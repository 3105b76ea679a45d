// Decoding with the cache against the whole forward, on any number of ranks: also more ranks than
// samples.
#include "launch/generator.h"

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "core/base/rng.h"
#include "launch/data/batch_builder.h"
#include "parallel/mesh.h"

namespace witan {
namespace {

const MpiEnvironment& mpi() {
  static const MpiEnvironment environment(nullptr, nullptr);
  return environment;
}

constexpr const char* kPlain = "heads: 4 kv_heads: 2 head_dim: 6 qk_norm: true qkv_bias: true";
constexpr const char* kWholeNorm =
    "heads: 4 kv_heads: 2 head_dim: 6 qk_norm: true qk_norm_scope: PROJECTION "
    "rope_scaling { llama3 { factor: 4 original_max_seq_len: 16 } }";
constexpr const char* kLatent =
    "heads: 3 latent { kv_lora_rank: 9 nope_head_dim: 5 rope_head_dim: 4 v_head_dim: 7 } "
    "rope_scaling { yarn { factor: 4 original_max_seq_len: 8 mscale: 1 mscale_all_dim: 0.8 } }";
constexpr const char* kWindow = "heads: 4 kv_heads: 2 head_dim: 6 sliding_window: 5";
constexpr const char* kLatentWindow =
    "heads: 3 sliding_window: 3 "
    "latent { kv_lora_rank: 9 nope_head_dim: 5 rope_head_dim: 4 v_head_dim: 7 }";
constexpr const char* kLatentQueries =
    "heads: 3 latent { q_lora_rank: 8 kv_lora_rank: 9 nope_head_dim: 5 rope_head_dim: 4 "
    "v_head_dim: 7 rope_interleaved: false }";

configs::RunConfig test_run(const std::string& attention) {
  configs::RunConfig run;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(R"(
    name: "test"
    model {
      vocab_size: 37 d_model: 20 layers: 3 init_std: 0.3
      attention { )" + attention + R"( }
      ffn { d_ff: 24 }
      moe {
        experts: 12 d_ff: 10 shared_d_ff: 6 pattern { first: 1 }
        router { score: SIGMOID top_k { k: 3 } }
        balance { expert_bias {} }
      }
    }
    runtime { precision: FLOAT64 })",
                                                            &run));
  return run;
}

// A model with random weights on all ranks.
class GeneratorTest : public ::testing::Test {
 protected:
  explicit GeneratorTest(const std::string& attention = kPlain)
      : run_(test_run(attention)),
        mesh_(mpi(), resolve_expert_parallel(run_, mpi().size()), 60.0),
        engine_(run_.model(), mesh_, start_runtime(run_.runtime(), mpi()), Engine::Options{}) {
    engine_.params().initialize(7);
    options_.context = 64;
    options_.max_tokens = 12;
    options_.sampling.seed = 5;
  }

  // Logits behind the last of `ids`, without a cache. Every rank computes the same. Collective.
  std::vector<double> logits_behind(const std::vector<std::int32_t>& ids) {
    BatchBuffers buffers;
    build_batch(
        configs::DataConfig(), static_cast<std::int64_t>(ids.size()), -1, 1, 0,
        [&](std::int64_t, std::span<std::int32_t> window) {
          std::copy(ids.begin(), ids.end(), window.begin());
          window.back() = -1;
          return 0;
        },
        buffers);
    engine_.model().forward(buffers.batch);
    std::vector<double> row(static_cast<std::size_t>(run_.model().vocab_size()));
    engine_.model().logits(static_cast<std::int64_t>(ids.size()) - 1, 1,
                           view_of(row.data(), {1, run_.model().vocab_size()}));
    return row;
  }

  // The samples of rank 0, on every rank.
  std::vector<std::vector<std::int32_t>> everywhere(const std::vector<GeneratedSample>& samples) {
    std::vector<std::vector<std::int32_t>> result;
    for (std::int64_t i = 0; i < options_.samples; ++i) {
      std::string bytes;
      if (mesh_.world_rank() == 0) {
        const std::vector<std::int32_t>& tokens = samples.at(static_cast<std::size_t>(i)).tokens;
        bytes.assign(reinterpret_cast<const char*>(tokens.data()),
                     tokens.size() * sizeof(std::int32_t));
      }
      mesh_.world().broadcast_bytes(bytes, 0);
      const auto* ids = reinterpret_cast<const std::int32_t*>(bytes.data());
      result.emplace_back(ids, ids + bytes.size() / sizeof(std::int32_t));
    }
    return result;
  }

  // `text` behind `prompt` is what greedy decoding without a cache gives; the model sees what
  // `context_of(length)` leaves.
  template <class ContextOf>
  void expect_greedy(const std::vector<std::int32_t>& prompt, const std::vector<std::int32_t>& text,
                     const ContextOf& context_of) {
    std::vector<std::int32_t> ids = prompt;
    for (const std::int32_t token : text) {
      const std::int64_t begin = context_of(static_cast<std::int64_t>(ids.size()));
      const std::vector<double> row = logits_behind({ids.begin() + begin, ids.end()});
      const auto best = std::max_element(row.begin(), row.end()) - row.begin();
      EXPECT_EQ(token, best) << "behind " << ids.size() << " tokens";
      ids.push_back(token);
    }
  }

  const std::vector<std::int32_t> prompt_ = {3, 14, 15, 9, 2, 6};
  configs::RunConfig run_;
  Mesh mesh_;
  Engine engine_;
  GenerateOptions options_;
};

// Every kind of attention.
class CacheTest : public GeneratorTest, public ::testing::WithParamInterface<const char*> {
 protected:
  CacheTest() : GeneratorTest(GetParam()) {}
};
INSTANTIATE_TEST_SUITE_P(Attention, CacheTest,
                         ::testing::Values(kPlain, kWholeNorm, kLatent, kLatentQueries, kWindow,
                                           kLatentWindow));

TEST_P(CacheTest, CachedLogitsAreThoseOfTheWholeForward) {
  const std::vector<std::int32_t> ids = {3, 14, 15, 9, 2, 6, 5, 35, 8, 9, 7};
  KvCache cache = engine_.model().make_cache(1, static_cast<std::int64_t>(ids.size()));
  std::size_t done = 0;
  for (const std::size_t count :
       {std::size_t{4}, std::size_t{1}, std::size_t{1}, std::size_t{3}, std::size_t{2}}) {
    std::vector<std::int32_t> tokens(ids.begin() + static_cast<std::ptrdiff_t>(done),
                                     ids.begin() + static_cast<std::ptrdiff_t>(done + count));
    std::vector<std::int32_t> positions(count);
    std::iota(positions.begin(), positions.end(), static_cast<std::int32_t>(done));
    Batch batch;
    batch.sequences = 1;
    batch.seq_len = static_cast<std::int64_t>(count);
    batch.tokens = view_of(tokens.data(), {batch.seq_len});
    batch.positions = view_of(positions.data(), {batch.seq_len});
    engine_.model().forward_cached(batch, cache);
    done += count;
    std::vector<double> row(static_cast<std::size_t>(run_.model().vocab_size()));
    engine_.model().logits(batch.seq_len - 1, 1,
                           view_of(row.data(), {1, run_.model().vocab_size()}));
    const std::vector<double> expected =
        logits_behind({ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(done)});
    for (std::size_t v = 0; v < row.size(); ++v)
      EXPECT_NEAR(row[v], expected[v], 1e-11) << done << " " << v;
  }
}

TEST_F(GeneratorTest, GreedyIsTheMostLikelyTokenOfTheWholeForward) {
  options_.sampling.greedy = true;
  const auto texts = everywhere(generate(engine_, prompt_, options_));
  ASSERT_EQ(texts[0].size(), 12U);
  expect_greedy(prompt_, texts[0], [](std::int64_t) { return 0; });
}

TEST_F(GeneratorTest, LongTextsGoOnBehindTheNewestHalf) {
  options_.sampling.greedy = true;
  options_.context = 8;
  const auto texts = everywhere(generate(engine_, prompt_, options_));
  ASSERT_EQ(texts[0].size(), 12U);
  // 6, 7, 8 tokens fit; 9 do not, and 4 stay, then 5, 6, 7, 8 and again 4, ...
  expect_greedy(prompt_, texts[0], [](std::int64_t length) {
    return length <= 8 ? 0 : length - 4 - (length - 9) % 5;
  });
}

// Five samples: on some rank counts no even share, and with one sample ranks without any.
TEST_F(GeneratorTest, SamplesDoNotDependOnTheNumberOfSamples) {
  options_.samples = 5;
  const auto five = everywhere(generate(engine_, prompt_, options_));
  EXPECT_NE(five[0], five[1]);
  options_.samples = 1;
  const auto one = everywhere(generate(engine_, prompt_, options_));
  EXPECT_EQ(one[0], five[0]);
}

// The numbers are addressed by (seed, sample, position): here without a cache, one sample after the
// other.
TEST_F(GeneratorTest, SamplesAreTheSameOnAnyNumberOfRanks) {
  options_.samples = 3;
  const auto found = everywhere(generate(engine_, prompt_, options_));
  std::vector<std::vector<std::int32_t>> expected(3);
  Sampler sampler(options_.sampling);
  for (std::size_t i = 0; i < 3; ++i) {
    std::vector<std::int32_t> ids = prompt_;
    const Random random(options_.sampling.seed, "sample", {}, i);
    for (std::int64_t n = 0; n < options_.max_tokens; ++n) {
      expected[i].push_back(sampler(logits_behind(ids), random.uniform(ids.size())));
      ids.push_back(expected[i].back());
    }
  }
  EXPECT_EQ(found, expected);
}

TEST_F(GeneratorTest, EndOfDocumentEndsASample) {
  options_.samples = 4;
  const auto all = everywhere(generate(engine_, prompt_, options_));
  options_.end_of_document = all[2][5];
  const std::vector<GeneratedSample> ended = generate(engine_, prompt_, options_);
  if (mesh_.world_rank() != 0) {
    EXPECT_TRUE(ended.empty());
    return;
  }
  for (std::size_t i = 0; i < 4; ++i) {
    const auto end = std::find(all[i].begin(), all[i].end(), options_.end_of_document);
    EXPECT_EQ(ended[i].ended, end != all[i].end()) << i;
    EXPECT_EQ(ended[i].tokens, std::vector<std::int32_t>(all[i].begin(), end)) << i;
  }
}

}  // namespace
}  // namespace witan
