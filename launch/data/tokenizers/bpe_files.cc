#include "launch/data/tokenizers/bpe_files.h"

#include <filesystem>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "core/base/error.h"
#include "launch/data/tokenizers/byte_alphabet.h"
#include "launch/data/tokenizers/read_file.h"

namespace witan {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

json parse_json(const std::string& text, const std::string& path) {
  try {
    json value = json::parse(text);
    if (!value.is_object()) throw_user_error(path, ": expected a JSON object");
    return value;
  } catch (const json::exception& error) {  // malformed, or a number too large for a double
    throw_user_error(path, ": not JSON: ", error.what());
  }
}

// A value of a JSON file, which knows its path in it.
class Field {
 public:
  Field(const json& value, const std::string& file, std::string path)
      : value_(&value), file_(&file), path_(std::move(path)) {}

  const json& value() const { return *value_; }
  std::string where() const { return *file_ + (path_.empty() ? "" : ": " + path_); }
  template <class... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    throw_user_error(where(), ": ", parts...);
  }

  // null where there is none.
  Field at(const std::string& key) const {
    static const json kNull;
    if (!value_->is_object()) fail("expected an object, found ", shown());
    const auto found = value_->find(key);
    return {found == value_->end() ? kNull : *found, *file_,
            path_.empty() ? key : path_ + "." + key};
  }
  std::vector<Field> elements() const {
    if (!value_->is_array()) fail("expected an array, found ", shown());
    std::vector<Field> result;
    for (std::size_t i = 0; i < value_->size(); ++i) {
      result.emplace_back((*value_)[i], *file_, path_ + "[" + std::to_string(i) + "]");
    }
    return result;
  }
  bool absent() const { return value_->is_null(); }
  const std::string& text() const {
    if (!value_->is_string()) fail("expected a string, found ", shown());
    return value_->get_ref<const std::string&>();
  }
  bool flag(bool otherwise) const {
    if (absent()) return otherwise;
    if (!value_->is_boolean()) fail("expected true or false, found ", shown());
    return value_->get<bool>();
  }
  std::int32_t id() const {
    constexpr std::int64_t kLargest = 1 << 24;  // as model.vocab_size
    const bool good = value_->is_number_integer() && *value_ >= 0 && *value_ < kLargest;
    if (!good) fail("expected a token id, 0 to ", kLargest - 1, ", found ", shown());
    return value_->get<std::int32_t>();
  }
  // The type of a component, e.g. "ByteLevel".
  const std::string& type() const { return at("type").text(); }
  std::string shown() const {
    constexpr std::size_t kEnough = 60;
    const std::string text = value_->dump(-1, ' ', false, json::error_handler_t::replace);
    return text.size() <= kEnough ? text : text.substr(0, kEnough) + "...";
  }

 private:
  const json* value_;
  const std::string* file_;
  std::string path_;
};

void refuse_unless(const Field& field, std::initializer_list<json> allowed,
                   const char* what = "is not supported") {
  if (field.absent()) return;
  for (const json& value : allowed) {
    if (field.value() == value) return;
  }
  field.fail(field.shown(), " ", what);
}

void read_token(const std::string& token, std::int32_t id, BpeModel::Vocabulary& vocabulary) {
  // Tokens with other characters are special ones; `added_tokens` has them.
  if (auto bytes = bytes_of_alphabet(token)) vocabulary.tokens.emplace_back(*bytes, id);
}

void read_vocabulary(const Field& vocab, BpeModel::Vocabulary& vocabulary) {
  if (!vocab.value().is_object() || vocab.value().empty()) vocab.fail("expected tokens and ids");
  std::set<std::int32_t> seen;
  for (const auto& [token, id] : vocab.value().items()) {
    const std::int32_t number = vocab.at(token).id();
    if (!seen.insert(number).second) vocab.fail("the id ", number, " appears twice");
    read_token(token, number, vocabulary);
  }
}

void add_merge(std::string_view left, std::string_view right, const std::string& where,
               BpeModel::Vocabulary& vocabulary) {
  auto left_bytes = bytes_of_alphabet(left), right_bytes = bytes_of_alphabet(right);
  const bool good = left_bytes && right_bytes && !left.empty() && !right.empty();
  if (!good) throw_user_error(where, ": \"", left, " ", right, "\": expected two tokens of bytes");
  vocabulary.merges.emplace_back(std::move(*left_bytes), std::move(*right_bytes));
}

// "left right"
void add_merge(std::string_view both, const std::string& where, BpeModel::Vocabulary& vocabulary) {
  const std::size_t space = both.find(' ');
  if (space == std::string_view::npos || both.find(' ', space + 1) != std::string_view::npos) {
    throw_user_error(where, ": \"", both, "\": expected two tokens with a space between them");
  }
  add_merge(both.substr(0, space), both.substr(space + 1), where, vocabulary);
}

void read_merges(const Field& merges, BpeModel::Vocabulary& vocabulary) {
  for (const Field& merge : merges.elements()) {
    if (merge.value().is_string()) {
      add_merge(merge.text(), merge.where(), vocabulary);
      continue;
    }
    const std::vector<Field> parts = merge.elements();
    if (parts.size() != 2) merge.fail("expected two tokens, found ", merge.shown());
    add_merge(parts[0].text(), parts[1].text(), merge.where(), vocabulary);
  }
}

void read_model(const Field& model, BpeModel::Vocabulary& vocabulary) {
  const Field type = model.at("type");
  if (type.absent() ? model.at("merges").absent() : type.text() != "BPE") {
    type.fail("found ", type.shown(), ", expected \"BPE\"");
  }
  refuse_unless(model.at("dropout"), {0.0});
  refuse_unless(model.at("continuing_subword_prefix"), {""});
  refuse_unless(model.at("end_of_word_suffix"), {""});
  vocabulary.whole_words = model.at("ignore_merges").flag(false);
  read_vocabulary(model.at("vocab"), vocabulary);
  read_merges(model.at("merges"), vocabulary);
}

void read_normalizer(const Field& normalizer, BpeDefinition& definition) {
  if (normalizer.absent()) return;
  if (normalizer.type() == "Sequence") {
    for (const Field& part : normalizer.at("normalizers").elements()) {
      read_normalizer(part, definition);
    }
    return;
  }
  if (normalizer.type() != "NFC") {
    normalizer.fail("\"", normalizer.type(), "\" is not supported (NFC is)");
  }
  definition.nfc = true;
}

// The steps of a pre_tokenizer up to its ByteLevel.
class StepReader {
 public:
  explicit StepReader(BpeDefinition& definition) : definition_(definition) {}

  void read(const Field& step) {
    if (byte_level_) step.fail("expected nothing behind ByteLevel");
    const std::string& type = step.type();
    if (type == "Sequence") {
      for (const Field& part : step.at("pretokenizers").elements()) read(part);
    } else if (type == "ByteLevel") {
      read_byte_level(step);
    } else if (type == "Split") {
      read_split(step);
    } else if (type == "Digits") {
      const bool each = step.at("individual_digits").flag(false);
      add(SplitPattern(each ? R"(\p{N})" : R"(\p{N}+)", step.where()));
    } else {
      step.fail("\"", type, "\" is not supported (ByteLevel, Split, Digits and Sequence are)");
    }
  }
  bool found_byte_level() const { return byte_level_; }

 private:
  void add(SplitPattern pattern, bool matches_only = false) {
    definition_.steps.push_back({std::move(pattern), matches_only});
  }

  void read_byte_level(const Field& step) {
    byte_level_ = true;
    definition_.add_prefix_space = step.at("add_prefix_space").flag(true);
    if (definition_.add_prefix_space && !definition_.steps.empty()) {
      step.at("add_prefix_space").fail("true is not supported behind another pre-tokenizer");
    }
    if (step.at("use_regex").flag(true)) add({std::string(kGpt2Pattern), step.where()});
  }

  void read_split(const Field& step) {
    const Field behavior = step.at("behavior");
    const bool invert = step.at("invert").flag(false);
    const bool matches_only = behavior.text() == "Removed" && invert;
    if (behavior.text() != "Isolated" && !matches_only) {
      behavior.fail(behavior.shown(), invert ? " with" : " without",
                    " invert is not supported (Isolated is, and Removed with invert)");
    }
    const Field regex = step.at("pattern").at("Regex");
    if (!regex.absent()) return add({regex.text(), regex.where()}, matches_only);
    const Field literal = step.at("pattern").at("String");
    add(SplitPattern::literal(literal.text(), literal.where()), matches_only);
  }

  BpeDefinition& definition_;
  bool byte_level_ = false;
};

void read_pre_tokenizer(const Field& pre_tokenizer, BpeDefinition& definition) {
  StepReader reader(definition);
  if (!pre_tokenizer.absent()) reader.read(pre_tokenizer);
  if (!reader.found_byte_level()) {
    pre_tokenizer.fail(
        "has no ByteLevel; only byte-level BPE is supported in a tokenizer.json "
        "(for a SentencePiece model name its tokenizer.model)");
  }
}

bool has_byte_level(const Field& decoder) {
  if (decoder.absent() || decoder.type() == "ByteLevel") return true;
  if (decoder.type() != "Sequence") return false;
  const std::vector<Field> parts = decoder.at("decoders").elements();
  return parts.size() == 1 && has_byte_level(parts[0]);
}

void read_added(const Field& tokens, BpeDefinition& definition) {
  if (tokens.absent()) return;
  for (const Field& token : tokens.elements()) {
    for (const char* flag : {"single_word", "lstrip", "rstrip"}) {
      refuse_unless(token.at(flag), {false});
    }
    BpeDefinition::Added& added = definition.added.emplace_back();
    added.id = token.at("id").id();
    added.content = token.at("content").text();
    if (added.content.empty()) token.at("content").fail("is empty");
    added.special = token.at("special").flag(false);
    added.normalized = token.at("normalized").flag(!added.special);
  }
}

std::optional<std::int32_t> id_of(const BpeDefinition& definition, const std::string& content) {
  for (const BpeDefinition::Added& added : definition.added) {
    if (added.content == content) return added.id;
  }
  return std::nullopt;
}

// tokenizer_config.json says which token ends a text; many files also go by its usual names.
void find_end_of_document(const std::string& path, BpeDefinition& definition) {
  const std::string config = (fs::path(path).parent_path() / "tokenizer_config.json").string();
  if (fs::exists(config)) {
    definition.files.push_back({"tokenizer_config.json", read_tokenizer_file(config)});
    const json parsed = parse_json(definition.files.back().content, config);
    const Field eos = Field(parsed, config, "").at("eos_token");
    if (!eos.absent()) {
      const std::string& content = eos.value().is_object() ? eos.at("content").text() : eos.text();
      const auto id = id_of(definition, content);
      if (!id) eos.fail("\"", content, "\" is not among the added tokens of ", path);
      definition.end_of_document = *id;
      return;
    }
  }
  for (const char* name : {"<|endoftext|>", "<|end_of_text|>", "</s>", "<|end▁of▁sentence|>",
                           "<｜end▁of▁sentence｜>"}) {
    if (const auto id = id_of(definition, name)) {
      definition.end_of_document = *id;
      return;
    }
  }
}

// Tokens that a template puts around a single text.
struct AroundText {
  std::vector<std::int32_t> begin, end;
};

// "single": [{"SpecialToken": {"id": NAME}}, {"Sequence": {"id": "A"}}], the ids of NAME under
// special_tokens.
void read_template(const Field& processor, AroundText& around) {
  bool text_seen = false;
  for (const Field& piece : processor.at("single").elements()) {
    if (!piece.at("Sequence").absent()) {
      if (text_seen) piece.fail("is a second place for the text");
      text_seen = true;
      continue;
    }
    const Field token = piece.at("SpecialToken").at("id");
    const Field special = processor.at("special_tokens").at(token.text());
    if (special.absent()) token.fail("\"", token.text(), "\" is not among special_tokens");
    for (const Field& id : special.at("ids").elements()) {
      (text_seen ? around.end : around.begin).push_back(id.id());
    }
  }
  if (!text_seen) processor.at("single").fail("has no place for the text");
}

void read_post_processor(const Field& processor, AroundText& around) {
  if (processor.absent() || processor.type() == "ByteLevel")
    return;  // ByteLevel moves offsets only
  if (processor.type() == "Sequence") {
    for (const Field& part : processor.at("processors").elements()) {
      read_post_processor(part, around);
    }
  } else if (processor.type() == "TemplateProcessing") {
    read_template(processor, around);
  } else {
    processor.fail("\"", processor.type(),
                   "\" is not supported (ByteLevel and TemplateProcessing are)");
  }
}

void read_tokens_around_text(const Field& processor, BpeDefinition& definition) {
  AroundText around;
  read_post_processor(processor, around);
  const std::vector<std::int32_t> end_of_document = {definition.end_of_document};
  if (!around.end.empty() && around.end != end_of_document) {
    processor.fail(
        "puts other tokens behind a text than end-of-document, which documents end with");
  }
  definition.text_begin = std::move(around.begin);
}

void read_merge_lines(const std::string& text, const std::string& path,
                      BpeModel::Vocabulary& vocabulary) {
  std::size_t line_number = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::string_view line(text.data() + at, end - at);
    at = end + 1;
    ++line_number;
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    const bool version = line_number == 1 && line.starts_with("#version");
    if (line.empty() || version) continue;
    add_merge(line, detail::concat(path, ":", line_number), vocabulary);
  }
}

}  // namespace

BpeDefinition read_tokenizer_json(const std::string& path) {
  BpeDefinition definition;
  definition.source = path;
  definition.files.push_back({"tokenizer.json", read_tokenizer_file(path)});
  const json parsed = parse_json(definition.files.back().content, path);
  const Field root(parsed, path, "");
  if (root.at("model").absent()) {
    throw_user_error(path,
                     ": has no \"model\": expected a tokenizer.json, or a vocab.json with "
                     "merges.txt beside it");
  }
  read_pre_tokenizer(root.at("pre_tokenizer"), definition);
  read_normalizer(root.at("normalizer"), definition);
  read_added(root.at("added_tokens"), definition);
  read_model(root.at("model"), definition.vocabulary);
  const Field decoder = root.at("decoder");
  if (!has_byte_level(decoder)) decoder.fail(decoder.shown(), " is not supported (ByteLevel is)");
  refuse_unless(root.at("truncation"), {}, "is not supported; remove it, text is never cut off");
  refuse_unless(root.at("padding"), {}, "is not supported; remove it, text is never padded");
  find_end_of_document(path, definition);
  read_tokens_around_text(root.at("post_processor"), definition);
  return definition;
}

BpeDefinition read_vocab_and_merges(const std::string& vocab_path, const std::string& merges_path) {
  constexpr const char* kEndOfText = "<|endoftext|>";
  BpeDefinition definition;
  definition.source = vocab_path;
  definition.files.push_back({"vocab.json", read_tokenizer_file(vocab_path)});
  definition.files.push_back({"merges.txt", read_tokenizer_file(merges_path)});
  const json vocab = parse_json(definition.files[0].content, vocab_path);
  read_vocabulary(Field(vocab, vocab_path, ""), definition.vocabulary);
  read_merge_lines(definition.files[1].content, merges_path, definition.vocabulary);
  definition.steps.push_back({SplitPattern(std::string(kGpt2Pattern), vocab_path)});
  const auto end = vocab.find(kEndOfText);
  if (end != vocab.end()) {
    definition.end_of_document = end->get<std::int32_t>();
    definition.added.push_back({definition.end_of_document, kEndOfText, true, false});
  }
  return definition;
}

}  // namespace witan
