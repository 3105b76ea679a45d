// The regular expression by which a tokenizer takes a text apart before it looks for tokens.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

struct pcre2_real_code_8;
struct pcre2_real_match_context_8;
struct pcre2_real_match_data_8;

namespace witan {

// GPT-2's own (Radford et al. 2019), which ByteLevel with use_regex stands for.
extern const std::string_view kGpt2Pattern;

// One expression in the syntax that tokenizer.json uses (that of Oniguruma), matched by PCRE2 with
// its just-in-time compiler. Classes are those of Unicode: \s is White_Space, \d is Nd.
class SplitPattern {
 public:
  // `where` names file and field in errors. UserError: not an expression, or a construct whose
  // meaning is not the same in PCRE2.
  SplitPattern(const std::string& expression, const std::string& where);
  // That text itself, no expression.
  static SplitPattern literal(const std::string& text, const std::string& where);

  // The memory of one thread's matches.
  struct FreeMatch {
    void operator()(pcre2_real_match_data_8* data) const;
  };
  using Match = std::unique_ptr<pcre2_real_match_data_8, FreeMatch>;
  Match make_match() const;

  struct Range {
    std::size_t begin, end;
  };
  // The first match at or behind `from` that is not empty; begin = end = text.size() if there is
  // none. `text` is valid UTF-8.
  Range find(std::string_view text, std::size_t from, pcre2_real_match_data_8* match) const;

  // Whether this is one of the expressions of which the following is known to hold; there is no
  // general way to find out.
  //   A run of ASCII letters, with or without a space in front, of which the first begins a match
  //   and behind which comes an ASCII character that is no letter, is a match.
  //   So is a run of ASCII punctuation without ' at its front, behind which comes a space, and one
  //   line feed between two characters that are no white space.
  //   A space between two ASCII letters begins a match, and so does the character behind such a
  //   line feed, whatever else is in the text.
  bool is_well_known() const { return well_known_; }
  // Whether this only sets runs of digits or of Chinese and Japanese characters apart, in front of
  // an expression that is well known, which leaves what is said above true.
  bool isolates_runs() const { return isolates_runs_; }

 private:
  struct FreeCode {
    void operator()(pcre2_real_code_8* code) const;
  };
  struct FreeContext {
    void operator()(pcre2_real_match_context_8* context) const;
  };
  SplitPattern(const std::string& expression, const std::string& translated,
               const std::string& where);

  std::unique_ptr<pcre2_real_code_8, FreeCode> code_;
  std::unique_ptr<pcre2_real_match_context_8, FreeContext> context_;  // read only when matching
  bool jit_ = false;
  bool well_known_ = false, isolates_runs_ = false;
};

}  // namespace witan
