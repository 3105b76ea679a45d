#include "launch/data/tokenizers/pre_tokenizer.h"

#include <algorithm>
#include <array>
#include <utility>

namespace witan {
namespace {

enum class Class : unsigned char { kOther, kLetter, kPunctuation, kSpace, kLineFeed, kDigit };

constexpr std::array<Class, 256> make_classes() {
  std::array<Class, 256> classes{};
  for (std::size_t c = 33; c < 127; ++c) classes[c] = Class::kPunctuation;
  for (std::size_t c = '0'; c <= '9'; ++c) classes[c] = Class::kDigit;
  for (std::size_t c = 'a'; c <= 'z'; ++c) classes[c] = Class::kLetter;
  for (std::size_t c = 'A'; c <= 'Z'; ++c) classes[c] = Class::kLetter;
  classes[' '] = Class::kSpace;
  classes['\n'] = Class::kLineFeed;
  return classes;
}

constexpr std::array<Class, 256> kClasses = make_classes();

// Behind the end there is nothing, which is no letter, punctuation, ...
Class class_at(std::string_view text, std::size_t at) {
  return at < text.size() ? kClasses[static_cast<unsigned char>(text[at])] : Class::kOther;
}

bool visible(Class c) {
  return c == Class::kLetter || c == Class::kPunctuation || c == Class::kDigit;
}

std::size_t end_of(Class run, std::string_view text, std::size_t at) {
  while (class_at(text, at) == run) ++at;
  return at;
}

}  // namespace

PreTokenizer::PreTokenizer(std::vector<Step> steps)
    : steps_(std::move(steps)),
      well_known_(!steps_.empty() &&
                  std::all_of(steps_.begin(), steps_.end(), [](const Step& step) {
                    return !step.matches_only &&
                           (step.pattern.is_well_known() || step.pattern.isolates_runs());
                  })) {}

PreTokenizer::Scratch PreTokenizer::make_scratch() const {
  Scratch scratch;
  for (const Step& step : steps_) scratch.matches.push_back(step.pattern.make_match());
  return scratch;
}

std::size_t PreTokenizer::end_of_plain_word(std::string_view text, std::size_t at) {
  const Class first = class_at(text, at);
  const std::size_t word = first == Class::kSpace ? at + 1 : at;
  if (class_at(text, word) == Class::kLetter) {
    const std::size_t end = end_of(Class::kLetter, text, word);
    const bool ascii = end == text.size() || static_cast<unsigned char>(text[end]) < 0x80;
    return ascii ? end : 0;
  }
  if (first == Class::kPunctuation && text[at] != '\'') {
    const std::size_t end = end_of(Class::kPunctuation, text, at);
    return class_at(text, end) == Class::kSpace ? end : 0;
  }
  if (first == Class::kLineFeed) return visible(class_at(text, at + 1)) ? at + 1 : 0;
  return 0;
}

}  // namespace witan
