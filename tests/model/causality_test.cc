// Which options let a token see later ones, and which let a sequence see the others of its batch:
// the training-mode forward in float64, with one token changed.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "core/model/check_model.h"
#include "core/model/transformer.h"
#include "tests/model/model_case.h"

namespace witan::test {
namespace {

constexpr std::int64_t kVocab = 13;
constexpr std::int64_t kSeqLen = 10;
constexpr int kCases = 100;
constexpr double kRounding = 1e-12;  // relative: another number of rows may round differently
constexpr double kLeak = 1e-6;

constexpr const char* kPolicies[] = {"TOKEN_MAJOR", "CHOICE_MAJOR", "PROBABILITY",
                                     "BATCH_PRIORITY"};

configs::ModelConfig config_of(const std::string& selection, const std::string& moe) {
  return model_config(
      "vocab_size: 13 d_model: 8 layers: 2 attention { heads: 2 } moe { experts: 6 d_ff: 5 " + moe +
      " router { bias: true input_jitter: 0.1 allow_non_causal: true " + selection + " } }");
}

// A tight capacity: two places for each expert of every 9 or 10 that an even load would need.
std::string tight(const char* policy) {
  return std::string("capacity { factor: 0.2 policy: ") + policy + " } ";
}

class Probe {
 public:
  explicit Probe(const configs::ModelConfig& config)
      : model_(config), transformer_(model_.config, model_.params, model_.exchange, {}, {}) {}

  // [rows, vocab] of the forward that a training step would make.
  std::vector<double> logits(TokenBatch& tokens, std::int64_t step) {
    tokens.batch.training = true;
    tokens.batch.seed = 3;
    tokens.batch.step = step;
    transformer_.forward_train(tokens.batch);
    std::vector<double> z(static_cast<std::size_t>(tokens.batch.rows() * kVocab));
    transformer_.logits(0, tokens.batch.rows(), view(z, {tokens.batch.rows(), kVocab}));
    return z;
  }

  // How far the logits of the rows [begin, end) move when token `at` changes: the largest, relative
  // to the largest logit.
  double moved(TokenBatch& tokens, std::int64_t step, std::int64_t at, std::int64_t begin,
               std::int64_t end) {
    const std::vector<double> before = logits(tokens, step);
    std::int32_t& token = tokens.tokens[static_cast<std::size_t>(at)];
    const std::int32_t old = token;
    token = static_cast<std::int32_t>((old + 1 + step % (kVocab - 1)) % kVocab);
    const std::vector<double> after = logits(tokens, step);
    token = old;
    double largest = 0.0, most = 0.0;
    for (std::int64_t i = begin * kVocab; i < end * kVocab; ++i) {
      const auto at_i = static_cast<std::size_t>(i);
      largest = std::max(largest, std::abs(before[at_i]));
      most = std::max(most, std::abs(after[at_i] - before[at_i]));
    }
    return most / largest;
  }

  // The furthest that any case moves a logit before the changed token.
  double backward_in_time() {
    double most = 0.0;
    for (int i = 0; i < kCases; ++i) {
      TokenBatch tokens(1, kSeqLen, kVocab, 0, static_cast<std::uint64_t>(i));
      const std::int64_t at = 1 + i % (kSeqLen - 1);
      most = std::max(most, moved(tokens, i, at, 0, at));
    }
    return most;
  }

  // ... a logit of the sequences before (after) the one with the changed token.
  double to_earlier_sequences() { return to_sequence(1, 0); }
  double to_later_sequences() { return to_sequence(0, 1); }

 private:
  double to_sequence(std::int64_t changed, std::int64_t seen) {
    double most = 0.0;
    for (int i = 0; i < kCases; ++i) {
      TokenBatch tokens(2, kSeqLen, kVocab, 0, static_cast<std::uint64_t>(i));
      const std::int64_t at = changed * kSeqLen + i % kSeqLen;
      most = std::max(most, moved(tokens, i, at, seen * kSeqLen, (seen + 1) * kSeqLen));
    }
    return most;
  }

  Model model_;
  Transformer transformer_;
};

std::vector<std::string> selections(bool causal) {
  std::vector<std::string> found;
  for (const RouterEntry& entry : registered_routers()) {
    configs::RouterConfig router;
    EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(entry.example, &router));
    if (selects_causally(router) == causal) found.emplace_back(entry.example);
  }
  return found;
}

const std::vector<std::string>& causal_extras() {
  static const std::vector<std::string> extras = {
      "", tight("TOKEN_MAJOR"), tight("TOKEN_MAJOR") + "zero_computation { zero: 1 constant: 1 }",
      "allowed_experts { tag { name: 'a' experts: '0-3' } tag { name: 'b' experts: '0-5' } }"};
  return extras;
}

bool accepted(const configs::ModelConfig& config) {
  bool good = true;
  check_model(config, [&](const std::string&, const std::string&) { good = false; });
  return good;
}

TEST(Causality, ALaterTokenMovesNoEarlierLogit) {
  int combinations = 0;
  for (const std::string& selection : selections(true)) {
    for (const std::string& extra : causal_extras()) {
      const configs::ModelConfig config = config_of(selection, extra);
      if (!accepted(config)) continue;
      SCOPED_TRACE(selection + " " + extra);
      EXPECT_LE(Probe(config).backward_in_time(), kRounding);
      ++combinations;
    }
  }
  EXPECT_GE(combinations, 24);
}

TEST(Causality, WhatIsRefusedForDecodersDoesLeak) {
  for (const std::string& selection : selections(false)) {
    const bool expert_choice = selection.starts_with("expert_choice");
    const std::string weights = expert_choice ? " weights: AS_IS" : "";
    EXPECT_GT(Probe(config_of(selection + weights, "")).backward_in_time(), kLeak) << selection;
  }
  EXPECT_GT(Probe(config_of("expert_choice { k: 2 scope: EXPERT_GROUP } weights: AS_IS", ""))
                .backward_in_time(),
            kLeak);
  for (const char* policy : kPolicies) {
    if (std::string(policy) == "TOKEN_MAJOR") continue;
    EXPECT_GT(Probe(config_of("top_k { k: 2 }", tight(policy))).backward_in_time(), kLeak)
        << policy;
  }
}

// Only what shares something between tokens couples the sequences of a micro-batch: places at the
// experts, and selections over the micro-batch. TOKEN_MAJOR couples later sequences to earlier
// ones, as it couples tokens.
TEST(Causality, SequencesOfABatchAreCoupledByWhatTheyShareOnly) {
  for (const std::string& selection : selections(true)) {
    SCOPED_TRACE(selection);
    Probe probe(config_of(selection, ""));
    EXPECT_LE(probe.to_earlier_sequences(), kRounding);
    EXPECT_LE(probe.to_later_sequences(), kRounding);
  }
  for (const std::string& selection : selections(false)) {
    Probe probe(config_of(selection, ""));
    EXPECT_GT(probe.to_earlier_sequences(), kLeak) << selection;
    EXPECT_GT(probe.to_later_sequences(), kLeak) << selection;
  }
  for (const char* policy : kPolicies) {
    Probe probe(config_of("top_k { k: 2 }", tight(policy)));
    EXPECT_GT(probe.to_later_sequences(), kLeak) << policy;
    if (std::string(policy) == "TOKEN_MAJOR") {
      EXPECT_LE(probe.to_earlier_sequences(), kRounding);
    } else {
      EXPECT_GT(probe.to_earlier_sequences(), kLeak) << policy;
    }
  }
}

}  // namespace
}  // namespace witan::test
