// The steps that take a text apart into words, each of which the BPE model then encodes on its own.
#pragma once

#include <string_view>
#include <vector>

#include "launch/data/tokenizers/split_pattern.h"

namespace witan {

class PreTokenizer {
 public:
  struct Step {
    SplitPattern pattern;
    // false: every match and every stretch between matches is a piece (Split, "Isolated");
    // true: only the matches are, what lies between is dropped ("Removed", inverted).
    bool matches_only = false;
  };
  // Each step takes the pieces of the one before apart. Without steps a text is one word.
  explicit PreTokenizer(std::vector<Step> steps);

  // The memory that one thread works with.
  struct Scratch {
    std::vector<SplitPattern::Match> matches;     // by step
    std::vector<std::string_view> pieces, finer;  // of all steps but the last
  };
  Scratch make_scratch() const;

  // Calls word(piece of `text`) in order. `text` is valid UTF-8.
  template <class F>
  void split(std::string_view text, Scratch& scratch, F&& word) const {
    if (steps_.empty()) return word(text);
    scratch.pieces.assign(1, text);
    for (std::size_t i = 0; i + 1 < steps_.size(); ++i) {
      scratch.finer.clear();
      for (const std::string_view piece : scratch.pieces) {
        run(steps_[i], piece, scratch.matches[i].get(),
            [&](std::string_view part) { scratch.finer.push_back(part); });
      }
      scratch.pieces.swap(scratch.finer);
    }
    for (const std::string_view piece : scratch.pieces) {
      run(steps_.back(), piece, scratch.matches.back().get(), word);
    }
  }

  // Whether SplitPattern::is_well_known() holds for what all steps do together.
  bool is_well_known() const { return well_known_; }

 private:
  // The end of the well-known match that begins at `at`, if that is plain to see; else 0.
  static std::size_t end_of_plain_word(std::string_view text, std::size_t at);

  template <class F>
  static void run(const Step& step, std::string_view text, pcre2_real_match_data_8* match,
                  F&& piece) {
    const bool plain_words = step.pattern.is_well_known();
    std::size_t at = 0;
    while (at < text.size()) {
      const std::size_t plain = plain_words ? end_of_plain_word(text, at) : 0;
      if (plain > 0) {
        piece(text.substr(at, plain - at));
        at = plain;
        continue;
      }
      const SplitPattern::Range found = step.pattern.find(text, at, match);
      if (found.begin > at && !step.matches_only) piece(text.substr(at, found.begin - at));
      if (found.end > found.begin) piece(text.substr(found.begin, found.end - found.begin));
      at = found.end;
    }
  }

  std::vector<Step> steps_;
  bool well_known_;
};

}  // namespace witan
