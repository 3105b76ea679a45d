#include "launch/data/sample_stream.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>

#include "core/base/error.h"
#include "core/base/rng.h"
#include "launch/data/blend.h"
#include "launch/data/token_source.h"

namespace witan {
namespace {

// A range of a dataset's tokens.
struct TokenRange {
  const TokenSource* dataset;
  std::string name;
  int tag;
  std::int64_t begin, end;

  std::int64_t tokens() const { return end - begin; }
};

void check_names(const google::protobuf::RepeatedPtrField<configs::Dataset>& datasets,
                 const char* field) {
  std::set<std::string> seen;
  for (int i = 0; i < datasets.size(); ++i)
    if (!seen.insert(datasets[i].name()).second)
      throw_user_error(field, "[", i, "].name: \"", datasets[i].name(),
                       "\" is taken by an earlier dataset; names must differ");
}

}  // namespace

struct SampleStream::Impl {
  Impl(const configs::DataConfig& data, std::int64_t vocab_size, std::uint64_t order_seed,
       const std::vector<std::string>& model_tags);

  void open_training(const configs::DataConfig& data);
  void open_validation(const configs::DataConfig& data);
  const TokenSource& open(const configs::Dataset& dataset, const std::string& field);
  int find_tag(const configs::Dataset& dataset, const std::string& field);
  std::int64_t windows(const TokenRange& split) const { return (split.tokens() - 1) / seq_len; }

  std::int64_t seq_len, vocab;
  std::uint64_t seed;
  std::vector<std::unique_ptr<TokenSource>> datasets;
  std::vector<std::string> tags;
  bool tags_are_known;  // by the model: no other may be added
  std::vector<TokenRange> train, validation;
  std::optional<Blend> blend;
};

SampleStream::Impl::Impl(const configs::DataConfig& data, std::int64_t vocab_size,
                         std::uint64_t order_seed, const std::vector<std::string>& model_tags)
    : seq_len(data.seq_len()),
      vocab(vocab_size),
      seed(order_seed),
      tags(model_tags),
      tags_are_known(!model_tags.empty()) {
  if (data.train_size() == 0 && data.validation_size() == 0)
    throw_user_error("data.train: no dataset; expected at least one (a name and a path)");
  check_names(data.train(), "data.train");
  check_names(data.validation(), "data.validation");
  open_training(data);
  open_validation(data);

  if (data.train_size() == 0) return;
  std::vector<std::string> names;
  std::vector<double> weights;
  for (const auto& dataset : data.train()) {
    names.push_back(dataset.name());
    weights.push_back(dataset.weight());
  }
  blend.emplace(names, weights);
}

const TokenSource& SampleStream::Impl::open(const configs::Dataset& dataset,
                                            const std::string& field) {
  if (dataset.path().empty())
    throw_user_error(field, ".path (dataset \"", dataset.name(),
                     "\"): missing; expected the path of an indexed dataset without .bin / .idx");
  datasets.push_back(open_dataset(dataset));
  if (datasets.back()->tokens() == 0)
    throw_user_error(field, " (dataset \"", dataset.name(), "\"): ", dataset.path(),
                     " holds no tokens");
  return *datasets.back();
}

int SampleStream::Impl::find_tag(const configs::Dataset& dataset, const std::string& field) {
  const std::string& tag = tag_of(dataset);
  const auto found = std::find(tags.begin(), tags.end(), tag);
  if (found != tags.end()) return static_cast<int>(found - tags.begin());
  if (tags_are_known) {
    std::string known;
    for (const std::string& name : tags) known += (known.empty() ? "" : ", ") + name;
    throw_user_error(field, ".tag (dataset \"", dataset.name(),
                     "\"): ", dataset.has_tag() ? "found \"" : "absent, so it is the name \"", tag,
                     "\"; model.moe.allowed_experts has the tags ", known);
  }
  tags.push_back(tag);
  return static_cast<int>(tags.size()) - 1;
}

void SampleStream::Impl::open_training(const configs::DataConfig& data) {
  const double share = data.validation_size() > 0 ? 0.0 : data.validation_share();
  for (int i = 0; i < data.train_size(); ++i) {
    const configs::Dataset& entry = data.train(i);
    const std::string field = detail::concat("data.train[", i, "]");
    const TokenSource& dataset = open(entry, field);
    const int tag = find_tag(entry, field);
    const std::int64_t tokens = dataset.tokens();
    const std::int64_t held_out = std::llround(static_cast<double>(tokens) * share);
    train.push_back({&dataset, entry.name(), tag, 0, tokens - held_out});
    if (train.back().tokens() < seq_len + 1)
      throw_user_error(field, " (dataset \"", entry.name(), "\"): ", entry.path(), " has ",
                       train.back().tokens(), " tokens to train on, expected at least ",
                       seq_len + 1, " (data.seq_len + 1)");
    if (share > 0) {
      if (held_out < 2)
        throw_user_error("data.validation_share: ", share, " of the ", tokens, " tokens of \"",
                         entry.name(), "\" is ", held_out,
                         ", expected at least 2; or 0 for no validation");
      validation.push_back({&dataset, entry.name(), tag, tokens - held_out, tokens});
    }
  }
}

void SampleStream::Impl::open_validation(const configs::DataConfig& data) {
  for (int i = 0; i < data.validation_size(); ++i) {
    const configs::Dataset& entry = data.validation(i);
    const std::string field = detail::concat("data.validation[", i, "]");
    const TokenSource& dataset = open(entry, field);
    if (dataset.tokens() < 2)
      throw_user_error(field, " (dataset \"", entry.name(), "\"): ", entry.path(), " has ",
                       dataset.tokens(), " tokens, expected at least 2");
    validation.push_back({&dataset, entry.name(), find_tag(entry, field), 0, dataset.tokens()});
  }
}

const std::string& tag_of(const configs::Dataset& dataset) {
  return dataset.has_tag() ? dataset.tag() : dataset.name();
}

SampleStream::SampleStream(const configs::DataConfig& data, std::int64_t vocab_size,
                           std::uint64_t seed, const std::vector<std::string>& model_tags)
    : impl_(std::make_unique<Impl>(data, vocab_size, seed, model_tags)) {}
SampleStream::~SampleStream() = default;

const std::vector<std::string>& SampleStream::tags() const { return impl_->tags; }
std::int64_t SampleStream::seq_len() const { return impl_->seq_len; }

int SampleStream::train_sample(std::int64_t n, std::span<std::int32_t> tokens) const {
  WITAN_CHECK(static_cast<std::int64_t>(tokens.size()) == seq_len() + 1, "a window of ",
              tokens.size(), " tokens, expected ", seq_len() + 1);
  WITAN_CHECK(impl_->blend.has_value(), "training sample ", n,
              " of a stream without training data");
  const Blend::Draw draw = (*impl_->blend)(n);
  const TokenRange& split = impl_->train[static_cast<std::size_t>(draw.dataset)];
  const std::int64_t windows = impl_->windows(split);
  const Permutation order(impl_->seed, "data/" + split.name,
                          static_cast<std::uint64_t>(draw.index / windows),
                          static_cast<std::uint64_t>(windows));
  const auto window =
      static_cast<std::int64_t>(order(static_cast<std::uint64_t>(draw.index % windows)));
  split.dataset->read(split.begin + window * seq_len(), tokens, impl_->vocab);
  return split.tag;
}

std::int64_t SampleStream::train_tokens() const {
  std::int64_t sum = 0;
  for (const TokenRange& split : impl_->train) sum += split.tokens();
  return sum;
}

std::int64_t SampleStream::train_windows() const {
  std::int64_t sum = 0;
  for (const TokenRange& split : impl_->train) sum += impl_->windows(split);
  return sum;
}

int SampleStream::validation_sets() const { return static_cast<int>(impl_->validation.size()); }

const std::string& SampleStream::validation_name(int set) const {
  return impl_->validation.at(static_cast<std::size_t>(set)).name;
}

std::int64_t SampleStream::validation_windows(int set) const {
  return (validation_tokens(set) + seq_len() - 1) / seq_len();
}

std::int64_t SampleStream::validation_tokens(int set) const {
  return impl_->validation.at(static_cast<std::size_t>(set)).tokens() - 1;
}

int SampleStream::validation_sample(int set, std::int64_t n, std::span<std::int32_t> tokens) const {
  WITAN_CHECK(static_cast<std::int64_t>(tokens.size()) == seq_len() + 1, "a window of ",
              tokens.size(), " tokens, expected ", seq_len() + 1);
  WITAN_CHECK(n >= 0 && n < validation_windows(set), "validation window ", n, " of ",
              validation_windows(set));
  const TokenRange& split = impl_->validation[static_cast<std::size_t>(set)];
  const std::int64_t begin = split.begin + n * seq_len();
  const auto here = static_cast<std::size_t>(std::min(seq_len() + 1, split.end - begin));
  split.dataset->read(begin, tokens.first(here), impl_->vocab);
  std::fill(tokens.begin() + static_cast<std::ptrdiff_t>(here), tokens.end(), -1);
  return split.tag;
}

}  // namespace witan
