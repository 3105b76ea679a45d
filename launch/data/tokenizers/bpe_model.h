// Byte pair encoding of one word (Sennrich et al. 2016, over bytes): merge the pair of lowest rank,
// the leftmost of several, until no pair is in the table.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "launch/data/tokenizers/pair_table.h"
#include "launch/data/tokenizers/word_cache.h"

namespace witan {

class BpeModel {
 public:
  struct Vocabulary {
    std::vector<std::pair<std::string, std::int32_t>> tokens;  // their bytes, id
    std::vector<std::pair<std::string, std::string>> merges;   // bytes left and right, best first
    bool whole_words = false;  // a word that is a token is not taken apart (ignore_merges)
  };
  // `source` names the file in errors. UserError: a byte or a part of a merge is not in the
  // vocabulary.
  BpeModel(const Vocabulary& vocabulary, const std::string& source);

  // Appends the ids of `word`, which lies in a larger `text`. `cache` is the caller's alone.
  void encode(std::string_view text, std::string_view word, WordCache& cache,
              std::vector<std::int32_t>& ids) const;

 private:
  void merge(std::string_view word, std::vector<std::int32_t>& ids) const;
  void merge_short(std::vector<std::int32_t>& ids, std::size_t begin) const;
  void merge_long(std::vector<std::int32_t>& ids, std::size_t begin) const;

  std::array<std::int32_t, 256> byte_ids_;
  PairTable merges_;
  std::unordered_map<std::string, std::int32_t> words_;  // empty unless whole_words
};

}  // namespace witan
