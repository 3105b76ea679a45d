// Multi-token prediction against sums by hand, and what must not change its bits.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "core/model/transformer.h"
#include "tests/model/model_case.h"

namespace witan::test {
namespace {

constexpr std::int64_t kWidth = 6;  // and as many tokens, so that the head can be the identity

configs::ModelConfig two_modules() {
  return model_config(
      "vocab_size: 6 d_model: 6 layers: 2 ffn { d_ff: 4 } norm { eps: 1e-4 }"
      " attention { heads: 2 kv_heads: 1 head_dim: 4 } mtp { depth: 2 loss_weight: 0.8 }"
      " moe { experts: 4 d_ff: 3 pattern { first: 1 } router { top_k { k: 2 } } }");
}

using Rows = std::vector<std::vector<double>>;

Rows rows_of(const TensorView& x) {
  Rows rows;
  for (std::int64_t r = 0; r < x.rows(); ++r) {
    const double* row = x.as<double>() + r * x.cols();
    rows.emplace_back(row, row + x.cols());
  }
  return rows;
}

std::vector<double> normed(const std::vector<double>& x, const TensorView& weight) {
  double squares = 0.0;
  for (const double v : x) squares += v * v;
  const double scale = 1.0 / std::sqrt(squares / static_cast<double>(x.size()) + 1e-4);
  std::vector<double> y = x;
  for (std::size_t i = 0; i < y.size(); ++i) y[i] *= scale * weight.as<double>()[i];
  return y;
}

double cross_entropy(const std::vector<double>& z, std::int32_t target) {
  double sum = 0.0;
  for (const double v : z) sum += std::exp(v);
  return std::log(sum) - z[static_cast<std::size_t>(target)];
}

// What the layer of a module makes of x, without its neighbours: DecoderLayer has tests of its own.
Rows through_layer(Model& model, int layer, const Batch& batch, const Rows& x) {
  std::vector<double> flat, out(x.size() * kWidth);
  for (const std::vector<double>& row : x) flat.insert(flat.end(), row.begin(), row.end());
  const Shape shape{static_cast<std::int64_t>(x.size()), kWidth};
  DecoderLayer decoder(model.config, model.params, layer, true, 1);
  DecoderLayer::Saved saved;
  decoder.forward(model.context, batch, view(flat, shape), view(out, shape), saved);
  return rows_of(view(out, shape));
}

// Equations 21 to 24 of arXiv 2412.19437 with loops over positions.
TEST(Mtp, LossesAreThoseOfThePaper) {
  Model model(two_modules());
  const TensorView head = model.params.value("head");
  for (std::int64_t i = 0; i < head.size(); ++i) {
    head.as<double>()[i] = i / kWidth == i % kWidth ? 1.0 : 0.0;
  }
  Transformer transformer(model.config, model.params, model.exchange, {}, {});
  TokenBatch tokens(3, 7, kWidth, 3);
  tokens.targets[9] = -1;  // in the middle of the second sequence
  const Batch& batch = tokens.batch;
  transformer.forward(batch, Transformer::Mtp::kYes);
  transformer.count_mtp_losses();
  std::vector<double> hidden(static_cast<std::size_t>(batch.rows() * kWidth));
  transformer.logits(0, batch.rows(), view(hidden, {batch.rows(), kWidth}));

  Rows h = rows_of(view(hidden, {batch.rows(), kWidth}));
  const Rows embedding = rows_of(model.params.value("embedding"));
  for (std::int64_t k = 1; k <= 2; ++k) {
    const std::string name = "layers." + std::to_string(1 + k) + ".mtp.";
    const Rows projection = rows_of(model.params.value(name + "projection"));
    const std::int64_t kept = batch.seq_len - k;
    MtpBatch cut;
    Arena arena(Device{}, "test");
    cut.cut({}, arena, batch, k);
    Rows x;
    for (std::int64_t s = 0; s < batch.sequences; ++s) {
      for (std::int64_t i = 0; i < kept; ++i) {
        const auto token = static_cast<std::size_t>(
            tokens.tokens[static_cast<std::size_t>(s * batch.seq_len + i + k)]);
        std::vector<double> joined =
            normed(embedding[token], model.params.value(name + "token_norm.weight"));
        const std::vector<double> before = normed(h[static_cast<std::size_t>(s * (kept + 1) + i)],
                                                  model.params.value(name + "hidden_norm.weight"));
        joined.insert(joined.end(), before.begin(), before.end());
        std::vector<double>& row = x.emplace_back(kWidth, 0.0);
        for (std::size_t o = 0; o < row.size(); ++o) {
          for (std::size_t j = 0; j < joined.size(); ++j) row[o] += projection[o][j] * joined[j];
        }
      }
    }
    h = through_layer(model, static_cast<int>(1 + k), cut.batch, x);
    double loss = 0.0;
    std::int64_t counted = 0;
    for (std::int64_t s = 0; s < batch.sequences; ++s) {
      for (std::int64_t i = 0; i < kept; ++i) {
        std::vector<double>& row = h[static_cast<std::size_t>(s * kept + i)];
        row = normed(row, model.params.value(name + "norm.weight"));
        const auto at = static_cast<std::size_t>(s * batch.seq_len + i);
        bool counts = true;
        for (std::size_t j = 0; j <= static_cast<std::size_t>(k); ++j) {
          counts = counts && tokens.targets[at + j] >= 0;
        }
        if (!counts) continue;
        loss += cross_entropy(row, tokens.targets[at + static_cast<std::size_t>(k)]);
        ++counted;
      }
    }
    const MtpStats& stats = transformer.mtp_stats()[static_cast<std::size_t>(k - 1)];
    EXPECT_NEAR(stats.loss, loss, 1e-11 * loss) << "depth " << k;
    EXPECT_EQ(stats.tokens, counted);
    EXPECT_EQ(stats.objective, 0.0) << "nothing was trained";
  }
}

TEST(Mtp, ACutBatchLooksAhead) {
  TokenBatch tokens(2, 5, 100, 2);
  tokens.targets[6] = -1;
  tokens.batch.first_token = 15;
  MtpBatch cut;
  Arena arena(Device{}, "test");
  cut.cut({}, arena, tokens.batch, 2);
  EXPECT_EQ(cut.batch.rows(), 6);
  EXPECT_EQ(cut.batch.first_token, 9) << "sequence 3 of the step";
  const std::vector<std::int32_t>& t = tokens.tokens;
  EXPECT_EQ(cut.tokens, (std::vector<std::int32_t>{t[2], t[3], t[4], t[7], t[8], t[9]}));
  const auto values = [&](const TensorView& column) {
    return std::vector<std::int32_t>(column.as<std::int32_t>(), column.as<std::int32_t>() + 6);
  };
  EXPECT_EQ(values(cut.batch.positions), (std::vector<std::int32_t>{0, 1, 2, 0, 1, 0}));
  EXPECT_EQ(values(cut.batch.first_key), (std::vector<std::int32_t>{0, 0, 0, 0, 0, 2}));
  // Target 6 does not count, so nothing is predicted across it; the last of a sequence never does.
  const std::vector<std::int32_t>& y = tokens.targets;
  EXPECT_EQ(cut.targets, (std::vector<std::int32_t>{y[2], y[3], -1, -1, -1, -1}));
  EXPECT_EQ(cut.batch.loss_tokens, 2);
  EXPECT_THROW(cut.cut({}, arena, tokens.batch, 5), Error);
}

TEST(Mtp, NothingAheadOfATargetIsSeen) {
  Model model(two_modules());
  Transformer transformer(model.config, model.params, model.exchange, {}, {});
  const auto losses = [&](std::int32_t changed, std::int64_t begin) {
    TokenBatch tokens(1, 8, kWidth);
    for (std::size_t i = 0; i < tokens.targets.size(); ++i) {
      tokens.targets[i] = i == 2 ? 3 : -1;  // the only target: token 3
    }
    tokens.targets[0] = tokens.targets[1] = 1;  // so that the depths may look so far
    for (auto i = static_cast<std::size_t>(begin); i < tokens.tokens.size(); ++i) {
      tokens.tokens[i] = changed;
    }
    for (MtpStats& stats : transformer.mtp_stats()) stats.clear();
    transformer.forward(tokens.batch, Transformer::Mtp::kYes);
    transformer.count_mtp_losses();
    return std::vector<double>{transformer.mtp_stats()[0].loss, transformer.mtp_stats()[1].loss};
  };
  EXPECT_EQ(losses(1, 3), losses(4, 3)) << "tokens from the target on";
  EXPECT_NE(losses(1, 2)[0], losses(4, 2)[0]) << "the token before the target";
  EXPECT_NE(losses(1, 2)[1], losses(4, 2)[1]);
}

TEST(Mtp, TheMainModelStaysAsItIs) {
  const configs::ModelConfig with = two_modules();
  configs::ModelConfig without = with;
  without.clear_mtp();
  Model a(with), b(without);
  for (int id = 0; id < b.table.size(); ++id) {
    const TensorView from = b.params.value(id);
    std::copy_n(from.as<double>(), from.size(), a.params.value(b.table[id].name).as<double>());
  }
  Transformer modules(with, a.params, a.exchange, {}, {});
  Transformer plain(without, b.params, b.exchange, {}, {});
  const TokenBatch tokens(2, 6, kWidth);
  modules.forward_train(tokens.batch);
  plain.forward_train(tokens.batch);
  EXPECT_EQ(modules.backward(tokens.batch, 1.0), plain.backward(tokens.batch, 1.0));
  EXPECT_TRUE(plain.mtp_stats().empty());
  EXPECT_EQ(modules.moe_layers().size(), plain.moe_layers().size() + 2);
}

// The weight of the paper, and its step to another one in the course of training.
TEST(Mtp, TheWeightFollowsItsSchedule) {
  configs::ModelConfig config = two_modules();
  configs::CoefficientSchedule& schedule = *config.mutable_mtp()->mutable_schedule();
  schedule.set_kind(configs::CoefficientSchedule::STEP);
  schedule.set_to(0.25);
  schedule.set_at(0.5);
  Model model(config);
  Transformer transformer(model.config, model.params, model.exchange, {}, {});
  TokenBatch tokens(2, 6, kWidth);
  for (const double progress : {0.2, 0.8}) {
    for (MtpStats& stats : transformer.mtp_stats()) stats.clear();
    tokens.batch.progress = progress;
    transformer.forward_train(tokens.batch);
    transformer.backward(tokens.batch, 1.0);
    for (const MtpStats& stats : transformer.mtp_stats()) {
      EXPECT_DOUBLE_EQ(stats.objective, (progress < 0.5 ? 0.8 : 0.2) / 2.0 * stats.loss);
      EXPECT_GT(stats.loss, 0.0);
    }
  }
}

}  // namespace
}  // namespace witan::test
