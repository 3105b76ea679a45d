#include "core/model/rounds.h"

#include <algorithm>
#include <limits>

#include "core/base/error.h"
#include "core/ops/topk.h"

namespace witan {
namespace {

std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }

// Adds a token's slots for each rank.
void count_token(const std::int32_t* choice, std::int64_t top_k, std::int64_t local_experts,
                 std::vector<std::int64_t>& slots) {
  for (std::int64_t j = 0; j < top_k; ++j) {
    if (choice[j] != ops::kNoChoice) ++slots[at(choice[j] / local_experts)];
  }
}

// What this rank may send to each rank in a round: its share of the room there, by what it has to
// send. Over all sources together that is at most the room. Empty: all of it fits.
std::vector<std::int64_t> shares_of_room(const std::vector<std::int64_t>& slots,
                                         std::int64_t max_rows, std::int64_t least,
                                         RankGroup& group) {
  const auto ranks = static_cast<std::int64_t>(group.size());
  std::vector<double> all(at(ranks * ranks), 0.0);  // [source, destination]
  for (std::int64_t to = 0; to < ranks; ++to) {
    all[at(group.rank() * ranks + to)] = static_cast<double>(slots[at(to)]);
  }
  group.sum(all);
  std::vector<std::int64_t> shares(at(ranks), std::numeric_limits<std::int64_t>::max());
  bool fits = true;
  for (std::int64_t to = 0; to < ranks; ++to) {
    std::int64_t total = 0;
    for (std::int64_t from = 0; from < ranks; ++from) {
      total += static_cast<std::int64_t>(all[at(from * ranks + to)]);
    }
    if (total <= max_rows) continue;
    fits = false;
    shares[at(to)] = least + (max_rows - ranks * least) * slots[at(to)] / total;
  }
  return fits ? std::vector<std::int64_t>{} : shares;
}

}  // namespace

std::int64_t fewest_max_rows(std::int64_t top_k, std::int64_t experts, std::int64_t ranks) {
  return ranks * std::min(top_k, experts / ranks);
}

void cut_rounds(const TensorView& indices, std::int64_t experts, std::int64_t max_rows,
                RankGroup& group, std::vector<std::int64_t>& begins) {
  const std::int64_t tokens = indices.rows();
  const std::int64_t top_k = indices.cols();
  const auto ranks = static_cast<std::int64_t>(group.size());
  const std::int64_t local_experts = experts / ranks;
  const std::int64_t fewest = fewest_max_rows(top_k, experts, ranks);
  WITAN_CHECK(max_rows >= fewest, "rounds of ", max_rows, " rows; at least ", fewest,
              " are needed");
  const auto* index = indices.as<std::int32_t>();
  std::vector<std::int64_t> slots(at(ranks), 0);
  for (std::int64_t t = 0; t < tokens; ++t) {
    count_token(index + t * top_k, top_k, local_experts, slots);
  }
  begins.assign(1, 0);
  const std::vector<std::int64_t> shares = shares_of_room(slots, max_rows, fewest / ranks, group);
  if (shares.empty()) {  // on every rank
    begins.push_back(tokens);
    return;
  }
  std::vector<std::int64_t> sent(at(ranks), 0), token(at(ranks));
  for (std::int64_t t = 0; t < tokens; ++t) {
    token.assign(at(ranks), 0);
    count_token(index + t * top_k, top_k, local_experts, token);
    bool room = true;
    for (std::size_t to = 0; to < sent.size(); ++to) {
      room = room && token[to] <= shares[to] - sent[to];
    }
    if (!room) {
      begins.push_back(t);
      sent.assign(at(ranks), 0);
    }
    for (std::size_t to = 0; to < sent.size(); ++to) sent[to] += token[to];
  }
  std::vector<double> rounds(at(ranks), 0.0);
  rounds[at(group.rank())] = static_cast<double>(begins.size());
  group.sum(rounds);
  begins.resize(at(static_cast<std::int64_t>(*std::max_element(rounds.begin(), rounds.end()))) + 1,
                tokens);
}

}  // namespace witan
