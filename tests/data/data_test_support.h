// Small datasets and files for the tests of launch/data.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "launch/data/indexed_dataset.h"
#include "launch/data/indexed_dataset_writer.h"

namespace witan::test {

// A fresh folder per test, removed at its end.
class FolderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "witan_data_XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string path(const std::string& name) const { return folder_ + "/" + name; }

  std::string write_file(const std::string& name, const std::string& content) const {
    std::filesystem::create_directories(std::filesystem::path(path(name)).parent_path());
    std::ofstream(path(name), std::ios::binary) << content;
    return path(name);
  }

 private:
  std::string folder_;
};

inline std::string content_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

using Documents = std::vector<std::vector<std::int32_t>>;

inline void write_dataset(const std::string& prefix, const Documents& documents,
                          std::int64_t vocab) {
  IndexedDatasetWriter writer(prefix, vocab);
  for (const auto& document : documents) {
    writer.append(document);
    writer.end_document();
  }
  writer.finish();
}

inline std::vector<std::int32_t> all_tokens(const IndexedDataset& dataset, std::int64_t vocab) {
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(dataset.tokens()));
  dataset.read(0, tokens, vocab);
  return tokens;
}

// Runs `f` and returns the message of the UserError it must throw.
template <class F>
std::string user_error(F&& f) {
  try {
    f();
  } catch (const UserError& error) {
    return error.what();
  } catch (const std::exception& error) {
    ADD_FAILURE() << "expected a UserError, found: " << error.what();
    return "";
  }
  ADD_FAILURE() << "expected a UserError, found none";
  return "";
}

}  // namespace witan::test

#define EXPECT_CONTAINS(text, part)                                                    \
  EXPECT_NE(std::string(text).find(part), std::string::npos) << "\"" << (text) << "\"" \
                                                             << " has no \"" << (part) << "\""
