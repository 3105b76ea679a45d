#include "launch/data/tokenizers/bpe_model.h"

#include <algorithm>
#include <queue>
#include <tuple>

#include "core/base/error.h"

namespace witan {
namespace {

// For messages: bytes that are not printable ASCII in hexadecimal.
std::string shown(const std::string& bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte > 32 && byte < 127) {
      text.push_back(c);
    } else {
      text.append({'\\', 'x', kDigits[byte >> 4], kDigits[byte & 15]});
    }
  }
  return text;
}

}  // namespace

BpeModel::BpeModel(const Vocabulary& vocabulary, const std::string& source)
    : merges_(vocabulary.merges.size()) {
  std::unordered_map<std::string, std::int32_t> ids;
  ids.reserve(vocabulary.tokens.size());
  for (const auto& [bytes, id] : vocabulary.tokens) ids.emplace(bytes, id);
  for (int byte = 0; byte < 256; ++byte) {
    const auto found = ids.find(std::string(1, static_cast<char>(byte)));
    if (found == ids.end()) {
      throw_user_error(source, ": the vocabulary has no token for the byte ", byte,
                       "; a byte-level vocabulary has all 256");
    }
    byte_ids_[static_cast<std::size_t>(byte)] = found->second;
  }
  std::uint32_t rank = 0;
  for (const std::pair<std::string, std::string>& merge : vocabulary.merges) {
    const std::string &left = merge.first, &right = merge.second;
    const auto id_of = [&](const std::string& bytes) {
      const auto found = ids.find(bytes);
      if (found != ids.end()) return found->second;
      throw_user_error(source, ": merge ", rank, " (", shown(left), " ", shown(right),
                       "): ", shown(bytes), " is not in the vocabulary");
    };
    const std::int32_t left_id = id_of(left), right_id = id_of(right);
    merges_.insert(left_id, right_id, {rank, id_of(left + right)});
    ++rank;
  }
  if (vocabulary.whole_words) words_ = std::move(ids);
}

void BpeModel::encode(std::string_view text, std::string_view word, WordCache& cache,
                      std::vector<std::int32_t>& ids) const {
  if (word.size() > WordCache::kMaxWord) return merge(word, ids);
  WordCache::Entry& entry = cache.at(text, word);
  if (!cache.holds(entry)) {
    const std::size_t begin = ids.size();
    merge(word, ids);
    cache.put(entry, std::span(ids).subspan(begin));
    return;
  }
  ids.insert(ids.end(), entry.ids, entry.ids + entry.count);
}

void BpeModel::merge(std::string_view word, std::vector<std::int32_t>& ids) const {
  constexpr std::size_t kShort = 48;  // the quadratic search is faster up to about there
  if (!words_.empty()) {
    const auto found = words_.find(std::string(word));
    if (found != words_.end()) {
      ids.push_back(found->second);
      return;
    }
  }
  const std::size_t begin = ids.size();
  for (const char c : word) ids.push_back(byte_ids_[static_cast<unsigned char>(c)]);
  if (word.size() <= kShort) {
    merge_short(ids, begin);
  } else {
    merge_long(ids, begin);
  }
}

void BpeModel::merge_short(std::vector<std::int32_t>& ids, std::size_t begin) const {
  std::vector<PairTable::Merge> pairs;  // of ids[begin + i] and the one behind it
  for (std::size_t i = begin; i + 1 < ids.size(); ++i) {
    pairs.push_back(merges_.find(ids[i], ids[i + 1]));
  }
  while (!pairs.empty()) {
    const auto best = std::min_element(
        pairs.begin(), pairs.end(), [](const auto& a, const auto& b) { return a.rank < b.rank; });
    if (best->rank == PairTable::kNone) break;
    const auto at = static_cast<std::size_t>(best - pairs.begin());
    ids[begin + at] = best->id;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(begin + at + 1));
    pairs.erase(best);
    if (at < pairs.size()) pairs[at] = merges_.find(ids[begin + at], ids[begin + at + 1]);
    if (at > 0) pairs[at - 1] = merges_.find(ids[begin + at - 1], ids[begin + at]);
  }
}

// The same by a heap over a linked list: n log n for words without end (base64, rows of dashes).
void BpeModel::merge_long(std::vector<std::int32_t>& ids, std::size_t begin) const {
  struct Symbol {
    std::int32_t id;
    std::size_t before, behind;
  };
  const std::size_t count = ids.size() - begin;
  constexpr std::int32_t kGone = -1;
  std::vector<Symbol> symbols(count);
  for (std::size_t i = 0; i < count; ++i) symbols[i] = {ids[begin + i], i - 1, i + 1};

  using Candidate = std::tuple<std::uint32_t, std::size_t>;  // rank, position of the left symbol
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> candidates;
  const auto merge_at = [&](std::size_t left) {
    const std::size_t right = symbols[left].behind;
    return right < count ? merges_.find(symbols[left].id, symbols[right].id) : PairTable::Merge{};
  };
  const auto offer = [&](std::size_t left) {
    const PairTable::Merge merge = merge_at(left);
    if (merge.rank != PairTable::kNone) candidates.emplace(merge.rank, left);
  };
  for (std::size_t i = 0; i + 1 < count; ++i) offer(i);
  while (!candidates.empty()) {
    const auto [rank, left] = candidates.top();
    candidates.pop();
    // The pair may have gone, or become another, since it was offered.
    if (symbols[left].id == kGone) continue;
    const PairTable::Merge merge = merge_at(left);
    if (merge.rank != rank) continue;
    const std::size_t right = symbols[left].behind;
    symbols[left].id = merge.id;
    symbols[left].behind = symbols[right].behind;
    symbols[right].id = kGone;
    if (symbols[left].behind < count) symbols[symbols[left].behind].before = left;
    offer(left);
    if (symbols[left].before < count) offer(symbols[left].before);
  }
  std::size_t out = begin;
  for (std::size_t i = 0; i < count; i = symbols[i].behind) ids[out++] = symbols[i].id;
  ids.resize(out);
}

}  // namespace witan
