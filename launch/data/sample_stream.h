// The order of the training data: the n-th sample is a pure function of (seed, n), at any number of
// ranks, so that a resumed run needs one number.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "configs/schema/run.pb.h"

namespace witan {

// Dataset.tag, or its name where it has none.
const std::string& tag_of(const configs::Dataset& dataset);

enum class Split { kTrain, kValidation };

// Opens the datasets of a DataConfig. Each dataset is a stream of tokens cut into windows of
// seq_len + 1 tokens at stride seq_len; the last validation_share of its tokens is the validation
// split (unless data.validation is given). Training windows are shuffled per epoch and blended by
// weight; validation windows come in order.
class SampleStream {
 public:
  // Checks that there is at least one training window, that no path is missing, etc. (UserError). A
  // stream for evaluation alone may have no training data, but then has validation data.
  // `model_tags`: the tags that the model knows (tag_names in core/model/expert_mask.h), in its
  // order; then a dataset of another tag is a UserError. Empty: any tag is good.
  SampleStream(const configs::DataConfig& data, std::int64_t vocab_size, std::uint64_t seed,
               const std::vector<std::string>& model_tags = {});
  ~SampleStream();

  // Tags of all datasets; the index is the tag of a token. Those of the model, or if it has none in
  // the order in which the datasets, training first, name them.
  const std::vector<std::string>& tags() const;
  std::int64_t seq_len() const;

  // Training sample n: seq_len + 1 tokens into `tokens`; returns the tag.
  int train_sample(std::int64_t n, std::span<std::int32_t> tokens) const;
  std::int64_t train_tokens() const;  // of all training splits: one epoch
  std::int64_t train_windows() const;

  // Validation: one set per dataset. Non-overlapping windows that together hold every position of
  // the split once (a target is predicted for each token but the first); the last window may be
  // short: `tokens` is then filled with -1 beyond its end.
  int validation_sets() const;
  const std::string& validation_name(int set) const;
  std::int64_t validation_windows(int set) const;
  std::int64_t validation_tokens(int set) const;  // predicted positions
  int validation_sample(int set, std::int64_t n, std::span<std::int32_t> tokens) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace witan
