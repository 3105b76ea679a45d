#include "launch/generator.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <string>

#include "core/base/error.h"
#include "core/base/rng.h"
#include "core/tensor/host_twin.h"
#include "core/tensor/tensor.h"
#include "launch/data/batch_builder.h"

namespace witan {
namespace {

// A rank's samples. All samples of all ranks have the same length at all times; one that has ended
// goes on, unrecorded, until the last one has.
class Generation {
 public:
  Generation(Engine& engine, std::span<const std::int32_t> prompt, const GenerateOptions& options)
      : ctx_(engine.runtime().ctx),
        model_(engine.model()),
        world_(engine.mesh().world()),
        options_(options),
        sampler_(options.sampling),
        first_(options.samples * world_.rank() / world_.size()),
        count_(options.samples * (world_.rank() + 1) / world_.size() - first_),
        length_(static_cast<std::int64_t>(prompt.size())),
        texts_(static_cast<std::size_t>(count_),
               std::vector<std::int32_t>(prompt.begin(), prompt.end())),
        results_(static_cast<std::size_t>(count_)),
        cache_(model_.make_cache(count_, std::min(options.context, length_ + options.max_tokens))),
        logits_({std::max<std::int64_t>(count_, 1), model_.dims().vocab}, model_.dtype(),
                ctx_.device),
        host_logits_(ctx_, logits_) {
    WITAN_CHECK(length_ > 0 && length_ <= options.context, "a prompt of ", length_,
                " tokens for a context of ", options.context);
  }

  void run() {
    for (std::int64_t n = 0; n < options_.max_tokens; ++n) {
      feed();
      append();
      if (all_ended()) return;
    }
  }

  // Results of all ranks at rank 0.
  std::vector<GeneratedSample> gather() {
    std::vector<std::int32_t> flat;
    for (const GeneratedSample& sample : results_) {
      flat.push_back(sample.ended ? 1 : 0);
      flat.push_back(static_cast<std::int32_t>(sample.tokens.size()));
      flat.insert(flat.end(), sample.tokens.begin(), sample.tokens.end());
    }
    const std::string own(reinterpret_cast<const char*>(flat.data()),
                          flat.size() * sizeof(std::int32_t));
    const std::string all = world_.gather_bytes(own, 0);
    flat.resize(all.size() / sizeof(std::int32_t));
    std::memcpy(flat.data(), all.data(), all.size());

    std::vector<GeneratedSample> samples;
    for (auto at = flat.begin(); at != flat.end();) {
      GeneratedSample& sample = samples.emplace_back();
      sample.ended = *at++ != 0;
      const std::int32_t tokens = *at++;
      sample.tokens.assign(at, at + tokens);
      at += tokens;
    }
    return samples;
  }

 private:
  // Takes the tokens that are not in the cache through the model; logits_ become those behind the
  // last token.
  void feed() {
    if (length_ - window_begin_ > cache_.capacity) {
      window_begin_ = length_ - std::max<std::int64_t>(cache_.capacity / 2, 1);
      in_cache_ = window_begin_;
      std::fill(cache_.lengths.begin(), cache_.lengths.end(), 0);
    }
    const std::int64_t seq_len = length_ - in_cache_;
    make_batch(seq_len);
    place_batch(ctx_, batch_);
    model_.forward_cached(batch_.batch, cache_);
    in_cache_ = length_;
    if (count_ == 0) return;
    if (seq_len == 1) {
      model_.logits(0, count_, logits_);
      return;
    }
    for (std::int64_t i = 0; i < count_; ++i) {
      model_.logits((i + 1) * seq_len - 1, 1, logits_.view().slice_rows(i, 1));
    }
  }

  void make_batch(std::int64_t seq_len) {
    batch_.tokens.clear();
    batch_.positions.clear();
    batch_.tags.assign(static_cast<std::size_t>(count_ * seq_len), options_.tag);
    for (const std::vector<std::int32_t>& text : texts_) {
      batch_.tokens.insert(batch_.tokens.end(), text.begin() + in_cache_, text.end());
      for (std::int64_t t = in_cache_; t < length_; ++t) {
        batch_.positions.push_back(static_cast<std::int32_t>(t - window_begin_));
      }
    }
    Batch& batch = batch_.batch = {};
    batch.sequences = count_;
    batch.seq_len = seq_len;
    batch.tokens = view_of(batch_.tokens.data(), {batch.rows()});
    batch.positions = view_of(batch_.positions.data(), {batch.rows()});
    batch.tags = view_of(batch_.tags.data(), {batch.rows()});
  }

  void append() {
    row_.resize(static_cast<std::size_t>(model_.dims().vocab));
    const TensorView logits = host_logits_.read().view();
    for (std::size_t i = 0; i < texts_.size(); ++i) {
      dispatch_float(logits.dtype, "logits", [&](auto zero) {
        const auto* z = logits.as<decltype(zero)>() + i * row_.size();
        std::copy(z, z + row_.size(), row_.begin());
      });
      const Random random(options_.sampling.seed, "sample", {},
                          static_cast<std::uint64_t>(first_) + i);
      const std::int32_t token =
          sampler_(row_, random.uniform(static_cast<std::uint64_t>(length_)));
      texts_[i].push_back(token);
      GeneratedSample& result = results_[i];
      result.ended = result.ended || token == options_.end_of_document;
      if (!result.ended) result.tokens.push_back(token);
    }
    ++length_;
  }

  bool all_ended() {
    if (options_.end_of_document < 0) return false;
    std::int32_t ended = 1;
    for (const GeneratedSample& sample : results_) ended = sample.ended ? ended : 0;
    world_.all_reduce(view_of(&ended, {1}), ReduceOp::kMin).wait();
    return ended == 1;
  }

  Context ctx_;
  Transformer& model_;
  Communicator& world_;
  GenerateOptions options_;
  Sampler sampler_;
  std::int64_t first_, count_;     // this rank's samples
  std::int64_t length_;            // of every text, prompt included
  std::int64_t in_cache_ = 0;      // tokens of every text that the model has seen
  std::int64_t window_begin_ = 0;  // the token that stands at position 0
  std::vector<std::vector<std::int32_t>> texts_;
  std::vector<GeneratedSample> results_;
  KvCache cache_;
  Tensor logits_;  // [count, vocab]
  HostTwin host_logits_;
  BatchBuffers batch_;
  std::vector<double> row_;
};

}  // namespace

std::vector<GeneratedSample> generate(Engine& engine, std::span<const std::int32_t> prompt,
                                      const GenerateOptions& options) {
  Generation generation(engine, prompt, options);
  generation.run();
  return generation.gather();
}

}  // namespace witan
