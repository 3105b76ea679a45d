#include "launch/verify/synthetic_data.h"

#include <algorithm>
#include <vector>

#include "core/base/rng.h"
#include "launch/data/indexed_dataset_writer.h"
#include "launch/data/token_source.h"

namespace witan {
namespace {

constexpr std::int64_t kTokens = 8192;  // of each dataset
constexpr std::uint64_t kShortest = 5, kLongest = 60;

std::vector<std::int32_t> document(const Random& random, std::uint64_t& draw, std::int64_t vocab) {
  std::vector<std::int32_t> tokens(kShortest + random.below(draw++, kLongest - kShortest));
  const auto others = static_cast<std::uint64_t>(vocab - 1);
  std::uint64_t last = random.below(draw++, others);
  for (std::int32_t& token : tokens) {
    const bool follows = random.below(draw++, 4) != 0;
    last = follows ? (last * 7 + 3) % others : random.below(draw++, others);
    token = static_cast<std::int32_t>(last) + 1;
  }
  return tokens;
}

}  // namespace

bool data_is_there(const configs::DataConfig& data) {
  return data.train_size() > 0 &&
         std::all_of(data.train().begin(), data.train().end(), dataset_is_there) &&
         std::all_of(data.validation().begin(), data.validation().end(), dataset_is_there);
}

void write_synthetic_data(const configs::DataConfig& data, std::int64_t vocab_size,
                          std::uint64_t seed) {
  const auto end_of_document = static_cast<std::int32_t>(data.end_of_document());
  for (const configs::Dataset& dataset : data.train()) {
    const Random random(seed, "verify/data", dataset.name());
    IndexedDatasetWriter writer(dataset.path(), vocab_size);
    std::uint64_t draw = 0;
    while (writer.tokens() < kTokens) {
      std::vector<std::int32_t> tokens = document(random, draw, vocab_size);
      tokens.push_back(end_of_document);
      writer.append(tokens);
      writer.end_document();
    }
    writer.finish();
  }
}

}  // namespace witan
