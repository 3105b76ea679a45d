// Takes values out of config.json and remembers everything that is wrong with them.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

namespace witan {

class HfConfigReader {
 public:
  // Both outlive the reader. `path` names the file in messages.
  HfConfigReader(const nlohmann::json& config, const std::string& path)
      : config_(config), path_(path) {}

  void refuse(const std::string& key, const std::string& right);
  void missing(const std::string& key) { problems_ += "\n  " + key + ": missing"; }
  void problem(const std::string& text) { problems_ += "\n  " + text; }

  // Null, which `transformers` writes for "not set", counts as absent ...
  bool has(const std::string& key) const {
    return config_.contains(key) && !config_[key].is_null();
  }
  // ... but not where the class has another default than null.
  bool names(const std::string& key) const { return config_.contains(key); }
  const nlohmann::json& operator[](const std::string& key) const { return config_[key]; }

  // A positive whole number.
  std::int64_t size(const std::string& key);
  std::int64_t size(const std::string& key, std::int64_t absent);
  double number(const std::string& key, double absent);
  bool flag(const std::string& key, bool absent);

  // Keys that change the result and that Witan does not have.
  void expect_absent(const std::string& key);
  void expect_false(const std::string& key);
  void expect_zero(const std::string& key);
  // `value` or absent.
  void expect(const std::string& key, const nlohmann::json& value);

  // UserError with all of them, if there are any.
  void throw_problems() const;

 private:
  const nlohmann::json& config_;
  const std::string& path_;
  std::string problems_;
};

}  // namespace witan
